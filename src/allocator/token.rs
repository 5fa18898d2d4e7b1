// SPDX-License-Identifier: Apache-2.0
//! Buffers whose release the kernel does not report: a token holds them until the client drops it
//! or exits.
//!
//! A dropped token means that the owner no longer uses the buffer. Other processes may still hold
//! its memory. So the registry drops the buffer, and its memory is never pooled: the kernel frees
//! it after the last holder has closed it.

use super::registry::Removed;
use super::{Allocator, Grant};
use crate::source::ReleaseMechanism;
use crate::units::{BufferId, Invalid};
use std::sync::Arc;

/// Holds some buffers of one allocation. Its drop releases them.
pub struct BufferToken {
    allocator: Arc<Allocator>,
    ids: Vec<BufferId>,
}

impl BufferToken {
    /// Releases these buffers, all for an empty list. It ignores buffers that were released before.
    ///
    /// # Errors
    /// If one does not belong to this token; no buffer is released then.
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
    /// Returns a token for the buffers of one allocation whose release the kernel cannot report:
    /// they are charged until the token is dropped. `None` if the kernel reports the release of
    /// all.
    pub fn token(self: &Arc<Self>, grants: &[Grant]) -> Option<BufferToken> {
        let silent = |grant: &&Grant| ReleaseMechanism::of(grant.backing) == ReleaseMechanism::Token;
        let ids: Vec<_> = grants.iter().filter(silent).map(|grant| grant.id).collect();
        (!ids.is_empty()).then(|| BufferToken { allocator: Arc::clone(self), ids })
    }

    /// Removes a buffer from the registry while other processes may still hold it. Its memory is
    /// never pooled.
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
