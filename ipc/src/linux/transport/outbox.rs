// SPDX-License-Identifier: Apache-2.0
//! Messages that are delayed to be sent with the next reply.
//!
//! The library releases the object of a call with a message of its own, a `DEC_STRONG`, right
//! before the reply. Nothing else is delayed: a release that a call causes is sent at once, for
//! calls of any duration. If no reply follows, the delayed message is sent before the next read of
//! the connection.

use super::frames::{self, Address};
use std::mem::take;

/// The sending side of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Object of the call that is being answered, until it is paid for.
    called: Option<Address>,
    held: Vec<u8>,
    /// The call that is being answered came with fewer descriptors than were sent.
    answers_lack: bool,
    /// The kind of client whose connection header comes next, which gets this crate's mark: an
    /// operator?
    marks_next: Option<bool>,
}

impl Outbox {
    /// Returns the outbox of a connection that this process opened, as an operator's or another's.
    pub(super) fn connecting(is_operator: bool) -> Self {
        Self { marks_next: Some(is_operator), ..Self::default() }
    }

    /// Returns what goes out in place of `message`: the handshake's first with this crate's mark,
    /// and a failure for lack of descriptors with that as its reason, be it of the call or of its
    /// reply. `None` for all others.
    pub(super) fn replace(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if let Some(is_operator) = self.marks_next.take() {
            let mut marked = message.to_vec();
            frames::mark_reading_ahead(&mut marked, is_operator);
            return Some(marked);
        }
        let status = frames::reply_status(message)?;
        let answers_lack = take(&mut self.answers_lack);
        // The library's own status for a reply whose descriptors this process could not copy is
        // what the client would take for its own lack.
        let is_lack = status == frames::NO_DESCRIPTORS_HERE || (answers_lack && status != 0);
        is_lack.then(|| frames::blaming_descriptors(message))
    }

    /// Notes that the call which has come lacks descriptors.
    pub(super) fn call_lacks_descriptors(&mut self) {
        self.answers_lack = true;
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
