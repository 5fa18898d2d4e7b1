// SPDX-License-Identifier: Apache-2.0
//! What is held back to go out with the reply that follows it.
//!
//! The library pays for the object that a call was for with a message of its own, a `DEC_STRONG`,
//! right before the reply. Nothing else is held back: a release that a call causes goes out at
//! once, however long the call takes. Where no reply follows, what is held back goes out before the
//! connection is read again.

use super::frames::{self, Address};
use std::mem::take;

/// The sending side of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Object of the call that is being answered, until it is paid for.
    called: Option<Address>,
    held: Vec<u8>,
    /// Whose connection header comes next, to which this crate's mark is to be added: an operator's?
    marks_next: Option<bool>,
}

impl Outbox {
    /// Returns the outbox of a connection that this process opened, as an operator's or another's.
    pub(super) fn connecting(is_operator: bool) -> Self {
        Self { marks_next: Some(is_operator), ..Self::default() }
    }

    /// Returns the handshake's first message with this crate's mark, and `None` for all that
    /// follow.
    pub(super) fn mark(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let is_operator = self.marks_next.take()?;
        let mut marked = message.to_vec();
        frames::mark_reading_ahead(&mut marked, is_operator);
        Some(marked)
    }

    /// Notes that a call of this object waits for a reply.
    pub(super) fn call_came(&mut self, target: Address) {
        self.called = Some(target);
    }

    /// Holds `message` back if it pays for the call that is being answered; says whether it does.
    pub(super) fn hold(&mut self, message: &[u8]) -> bool {
        let pays = self.called.is_some() && frames::paid_address(message) == self.called;
        if pays {
            self.called = None;
            self.held.extend_from_slice(message);
        }
        pays
    }

    /// Returns what is held back, for the caller to send.
    pub(super) fn take(&mut self) -> Vec<u8> {
        take(&mut self.held)
    }

    /// Takes back what could not be sent.
    pub(super) fn put_back(&mut self, held: Vec<u8>) {
        self.held = held;
    }
}
