// SPDX-License-Identifier: Apache-2.0
//! Buffers whose release the kernel does not report: they are held by a token, until their owner
//! gives it up or dies.
//!
//! A dropped token means that the owner is done, not that no other process has the memory. So the
//! registry drops the buffer, and its memory is never pooled: the kernel frees it after its last
//! holder.

use super::registry::Removed;
use super::{Allocator, Grant};
use crate::source::ReleaseMechanism;
use crate::units::{BufferId, Invalid};
use std::sync::Arc;

/// Holds some buffers of one allocation. They are given up when this is dropped.
pub struct BufferToken {
    allocator: Arc<Allocator>,
    ids: Vec<BufferId>,
}

impl BufferToken {
    /// Releases these buffers, all for an empty list. It ignores buffers that were released before.
    ///
    /// # Errors
    /// If one is not this token's; nothing is given up then.
    pub fn release(&self, ids: &[BufferId]) -> Result<(), Invalid> {
        if let Some(foreign) = ids.iter().find(|id| !self.ids.contains(id)) {
            return Err(Invalid::new("ids", foreign, "it must have buffers that this token holds"));
        }
        for id in if ids.is_empty() { &self.ids } else { ids } {
            self.allocator.give_up(*id);
        }
        Ok(())
    }
}

impl Drop for BufferToken {
    fn drop(&mut self) {
        self.ids.iter().for_each(|id| self.allocator.give_up(*id));
    }
}

impl Allocator {
    /// Returns a token that owns those buffers of one allocation whose release the kernel cannot
    /// report: they are charged as long as the token lives. `None` if the kernel reports the
    /// release of all.
    pub fn token(self: &Arc<Self>, grants: &[Grant]) -> Option<BufferToken> {
        let silent = |grant: &&Grant| ReleaseMechanism::of(grant.backing) == ReleaseMechanism::Token;
        let ids: Vec<_> = grants.iter().filter(silent).map(|grant| grant.id).collect();
        (!ids.is_empty()).then(|| BufferToken { allocator: Arc::clone(self), ids })
    }

    /// Removes a buffer from the registry though others may still have it: its memory is never
    /// pooled.
    fn give_up(&self, id: BufferId) {
        let removed = self.registry().remove(&self.heaps, id, |record, stored| {
            self.heaps[record.heap].pool().forget(record.uid, record.bytes, None);
            stored
        });
        let Some(Removed { record, leftover, metadata, is_reserved }) = removed else { return };
        drop((leftover, metadata));
        self.note_released(&record);
        log::debug!("buffer {id} of uid {} released by its token, {} bytes", record.uid, record.bytes.get());
        if is_reserved {
            self.maker.wake();
        }
    }
}
