// SPDX-License-Identifier: Apache-2.0
//! Decides every permission.

use super::{Allocator, Caller};
use crate::heap::Heap;
use crate::units::Uid;

/// An action that needs a permission. Every caller may take actions that are not listed here.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Allocate from a heap.
    UseHeap(&'a Heap),
    /// Reserve buffers of a heap: every caller who may use the heap.
    Reserve(&'a Heap),
    /// See what other clients hold.
    SeeOthers,
    /// Give memory back to the kernel.
    Trim,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("uid {uid} may not {what}")]
pub struct Denied {
    /// The caller.
    pub uid: Uid,
    /// The action.
    pub what: &'static str,
}

impl Allocator {
    /// Decides whether `caller` may do `action`. Privileged are root, the service's own uid, and
    /// uids whose policy says so.
    ///
    /// # Errors
    /// If not.
    pub fn authorize(&self, caller: &Caller, action: Action<'_>) -> Result<(), Denied> {
        let (allowed, what) = match action {
            Action::UseHeap(heap) => (heap.admits(caller.uid), "use this heap"),
            Action::Reserve(heap) => (heap.admits(caller.uid), "reserve buffers of this heap"),
            Action::SeeOthers => (self.is_privileged(caller.uid), "see what others hold"),
            Action::Trim => (self.is_privileged(caller.uid), "trim heaps"),
        };
        if allowed { Ok(()) } else { Err(Denied { uid: caller.uid, what }) }
    }

    /// Returns whether `uid` is root's, the service's own, or one that the policy makes privileged.
    pub fn is_privileged(&self, uid: Uid) -> bool {
        uid == Uid(0) || uid == self.own_uid || self.registry().ledger.is_privileged(uid)
    }
}
