// SPDX-License-Identifier: Apache-2.0
//! Memory in a pool, and the operations on it.

use super::Pool;
use crate::pool::{Dirty, Evicted, Pooled};
use crate::source::{Memory, Unfit};
use crate::sys::inotify::Watch;
use crate::sys::wipe::{Wipe, Wiped};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A buffer's memory with its watch, which stays with the file.
#[derive(Clone)]
pub struct Stored {
    /// The memory.
    pub memory: Arc<dyn Memory>,
    /// `None` if the kernel had no watches left.
    pub watch: Option<Watch>,
}

/// A pool's operations on memory, always without its lock. A model checker replaces them.
pub trait Poolable: Send {
    /// Cleans memory, on any number of threads.
    type Wipe: Send + Sync;

    /// Does as [`Memory::worth_keeping`].
    ///
    /// # Errors
    /// The cause if it cannot.
    fn worth_keeping(&self) -> Result<(), Unfit>;

    /// Does as [`Memory::is_new`].
    fn is_new(&self) -> bool {
        false
    }

    /// Does as [`Memory::wipe`].
    ///
    /// # Errors
    /// If it cannot be mapped.
    fn wipe(&self) -> io::Result<Arc<Self::Wipe>>;

    /// Finishes cleaning on the calling thread, independently of other threads.
    ///
    /// # Errors
    /// If its contents are not known.
    fn finish(&self, wipe: &Self::Wipe) -> io::Result<()>;

    /// Stops all writing to the memory by `wipe`.
    fn stop(&self, wipe: &Self::Wipe);

    /// Does as [`Memory::cleaned`].
    fn cleaned(&self) {}

    /// Does as [`Memory::has_block`].
    fn has_block(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }
}

impl Poolable for Stored {
    type Wipe = Wipe;

    fn worth_keeping(&self) -> Result<(), Unfit> {
        self.memory.worth_keeping()
    }

    fn is_new(&self) -> bool {
        self.memory.is_new()
    }

    fn wipe(&self) -> io::Result<Arc<Wipe>> {
        self.memory.wipe().map(Arc::new)
    }

    fn finish(&self, wipe: &Wipe) -> io::Result<()> {
        if wipe.finish()? == Wiped::Detached {
            self.memory.forget_mapping();
            self.memory.scrub()?;
        }
        Ok(())
    }

    fn stop(&self, wipe: &Wipe) {
        if !wipe.stop() {
            self.memory.forget_mapping();
        }
    }

    fn cleaned(&self) {
        self.memory.cleaned();
    }

    fn has_block(&self, bytes: u64) -> bool {
        self.memory.has_block(bytes)
    }
}

/// Memory on the released list. Dropping it first stops the thread that cleans it.
pub struct Unclean<M: Poolable> {
    /// `None` after the memory was taken, just before the drop.
    pub(super) memory: Option<M>,
    pub(super) wipe: Arc<M::Wipe>,
}

impl<M: Poolable> Unclean<M> {
    /// Returns the memory after all threads stopped writing to it; `None` if it was taken before.
    pub(super) fn take_as_is(mut self) -> Option<M> {
        let memory = self.memory.take()?;
        memory.stop(&self.wipe);
        Some(memory)
    }

    /// Zeroes it on the calling thread.
    pub(super) fn finish(mut self) -> io::Result<M> {
        let memory = self.memory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        memory.finish(&self.wipe)?;
        self.memory.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl<M: Poolable> Drop for Unclean<M> {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.stop(&self.wipe);
        }
    }
}

/// A released buffer that is worth pooling, before it is in the pool.
pub type Released<M = Stored> = Pooled<Unclean<M>, Dirty>;

/// Memory that left a pool to be dropped.
pub type Leftover<M = Stored> = Evicted<M, Unclean<M>>;

/// Size in bytes from which a second thread helps to return memory. The kernel takes some 100 ms
/// for a GiB to unmap it and as much to free it.
const SHARED_WORK: u64 = 32 << 20;

/// Drops memory that left a pool. The caller holds no lock, because the kernel needs time to free
/// pages. If there is much memory, another thread drops half of it, if it can be started.
pub fn discard<M: Poolable>(leftover: Leftover<M>) {
    leftover.free.iter().for_each(|memory| memory.memory().cleaned());
    if leftover.bytes() < SHARED_WORK || leftover.len() < 2 {
        return;
    }
    let Leftover { mut released, mut free } = leftover;
    let half = (released.split_off(released.len() / 2), free.split_off(free.len() / 2));
    std::thread::scope(|scope| {
        // If no thread can be started, this thread drops the half.
        let _ = std::thread::Builder::new()
            .name("anion-discard".to_owned())
            .spawn_scoped(scope, move || drop(half));
        drop((released, free));
    });
}

impl Pool<Stored> {
    /// Returns the ranges of its source's arena that its memory uses.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let inner = self.lock();
        let released = inner.contents.released.memories().filter_map(|unclean| unclean.memory.as_ref());
        let idle = released.chain(inner.contents.free.memories());
        idle.flat_map(|stored| stored.memory.ranges()).cloned().collect()
    }
}
