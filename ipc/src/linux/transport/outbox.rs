// SPDX-License-Identifier: Apache-2.0
//! Delays messages to send them with the next reply.
//!
//! The library releases the object of a call with a separate message, a `DEC_STRONG`, right before
//! the reply. Nothing else is delayed: a release that a call causes is sent at once, for calls of
//! any duration. If no reply follows, the delayed message is sent before the next read of the
//! connection.

use super::frames::{self, Address};
use std::mem::take;

/// The sending side of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Target of the call that is being answered, until it is released.
    called: Option<Address>,
    held: Vec<u8>,
    /// Whether the call that is being answered lost descriptors.
    answers_lack: bool,
    /// Set until the connection header is sent: whether the mark in it is an operator's.
    marks_next: Option<bool>,
}

impl Outbox {
    /// Returns the outbox of a connection that this process opened: an operator's or an ordinary
    /// one.
    pub(super) fn connecting(is_operator: bool) -> Self {
        Self { marks_next: Some(is_operator), ..Self::default() }
    }

    /// Returns the bytes that replace `message`; `None` to send it unchanged. Replaces the first
    /// message of the handshake by one with this crate's mark, and a failure that is due to a lack
    /// of descriptors, in the call or in its reply, by one with that reason.
    pub(super) fn replace(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if let Some(is_operator) = self.marks_next.take() {
            let mut marked = message.to_vec();
            frames::mark_reading_ahead(&mut marked, is_operator);
            return Some(marked);
        }
        let status = frames::reply_status(message)?;
        let answers_lack = take(&mut self.answers_lack);
        // The library uses this status if this process could not copy the descriptors of a reply.
        // The client would read it as its own lack of descriptors.
        let is_lack = status == frames::NO_DESCRIPTORS_HERE || (answers_lack && status != 0);
        is_lack.then(|| frames::blaming_descriptors(message))
    }

    /// Records that the received call lost descriptors.
    pub(super) fn call_lacks_descriptors(&mut self) {
        self.answers_lack = true;
    }

    /// Records that a call to this object waits for a reply.
    pub(super) fn call_came(&mut self, target: Address) {
        self.called = Some(target);
    }

    /// Delays `message` if it releases the target of the call that is being answered. Returns
    /// whether it does.
    pub(super) fn hold(&mut self, message: &[u8]) -> bool {
        let pays = self.called.is_some() && frames::paid_address(message) == self.called;
        if pays {
            self.called = None;
            self.held.extend_from_slice(message);
        }
        pays
    }

    /// Returns the delayed bytes, which the caller sends.
    pub(super) fn take(&mut self) -> Vec<u8> {
        take(&mut self.held)
    }

    /// Restores delayed bytes that could not be sent.
    pub(super) fn put_back(&mut self, held: Vec<u8>) {
        self.held = held;
    }
}
