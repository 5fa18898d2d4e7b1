// SPDX-License-Identifier: Apache-2.0
//! Decides every permission.

use super::{Allocator, Caller};
use crate::heap::Heap;
use crate::units::Uid;

/// An action that needs a permission. Every caller may do all other actions.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Allocate from a heap.
    UseHeap(&'a Heap),
    /// Reserve buffers of a heap: permitted to every caller that may use the heap.
    Reserve(&'a Heap),
    /// Read the usage and buffers of other uids.
    SeeOthers,
    /// Return pooled memory to the kernel.
    Trim,
}

/// A refused action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("uid {uid} may not {what}")]
pub struct Denied {
    /// The caller.
    pub uid: Uid,
    /// The action.
    pub what: &'static str,
}

impl Allocator {
    /// Decides whether `caller` may do `action`. Root, the service's own uid, and uids that the
    /// policy names as privileged are privileged.
    ///
    /// # Errors
    /// If the caller is not permitted.
    pub fn authorize(&self, caller: &Caller, action: Action<'_>) -> Result<(), Denied> {
        let (allowed, what) = match action {
            Action::UseHeap(heap) => (heap.admits(caller.uid), "use this heap"),
            Action::Reserve(heap) => (heap.admits(caller.uid), "reserve buffers of this heap"),
            Action::SeeOthers => (self.is_privileged(caller.uid), "see buffers of other uids"),
            Action::Trim => (self.is_privileged(caller.uid), "trim heaps"),
        };
        if allowed { Ok(()) } else { Err(Denied { uid: caller.uid, what }) }
    }

    /// Returns whether `uid` is root, the service's own, or one that the policy makes privileged.
    pub fn is_privileged(&self, uid: Uid) -> bool {
        uid == Uid(0) || uid == self.own_uid || self.registry().ledger.is_privileged(uid)
    }
}
