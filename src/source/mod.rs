// SPDX-License-Identifier: Apache-2.0
//! Floor 4: sources, which make memory. A source knows nothing of clients, heaps or limits. Its
//! properties are data, fixed when it is opened ([`Capabilities`]).

pub mod arena;
pub mod ashmem;
pub mod blocks;
mod capabilities;
pub mod carveout;
pub mod dma_buf;
pub mod dma_heap;
mod error;
pub mod export;
pub mod hugetlb;
pub mod ion;
pub mod memfd;
pub mod ordered;
pub mod release;
#[cfg(test)]
pub mod scripted;
pub mod udmabuf;

pub use self::capabilities::{Capabilities, Opened};
pub use self::error::{SourceError, is_exhaustion};
pub use self::release::ReleaseMechanism;
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::wipe::{Wipe, Wiped};
use crate::units::{Access, BackedBytes, Backing, Label};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A maker of memory. Called without any lock held, from many threads at once.
pub trait Source: Send + Sync {
    /// Makes memory of `bytes` bytes, a multiple of [`Capabilities::granularity`], every byte zero,
    /// that no client has ever held. It is for clients with this access mode: if all holders of a
    /// buffer share one open file description, that fixes the mode now. If the kernel names files
    /// of shared memory, /proc shows `name` for it from now on.
    ///
    /// # Errors
    /// If memory, room or descriptors have run out ([`SourceError::is_exhaustion`]), or as the
    /// kernel reports it; `Unsupported` if such memory cannot be made.
    fn create(&self, bytes: BackedBytes, access: Access, name: &str) -> Result<Box<dyn Memory>, SourceError>;

    /// Returns the identity of the file behind `fd` if it is one of this source's kind that
    /// fstat(2) does not tell apart; `None` for any other.
    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        let _ = fd;
        None
    }
}

/// A source whose memory is files of shared memory.
pub trait FileSource: Source {
    /// Returns what it gives, the same at each call.
    fn capabilities(&self) -> Capabilities;

    /// Makes a file, which /proc calls `/memfd:NAME`. Each opening of it has an access of its own.
    ///
    /// # Errors
    /// As the kernel reports them, see [`is_exhaustion`].
    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>>;
}

/// The memory of one buffer, as the service holds it. Dropping it gives the service's hold up.
pub trait Memory: Send + Sync {
    /// Returns a new descriptor for a client, with `access` enforced by the kernel, and an open
    /// file description of its own where the kernel opens such memory more than once.
    ///
    /// # Errors
    /// When descriptors run out; `Unsupported` if it was created for another access.
    fn open(&self, access: Access) -> io::Result<OwnedFd>;

    /// Returns what its descriptors are.
    fn backing(&self) -> Backing;

    /// Returns the ranges that it takes of memory that was set aside, by address; none if it lies
    /// anywhere.
    fn ranges(&self) -> &[Range<u64>] {
        &[]
    }

    /// Returns the file's identity, the same through every descriptor: what fstat(2) tells, else
    /// [`Source::identify`].
    fn inode(&self) -> Inode;

    /// Returns whether only the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not tell; then nothing is known.
    fn is_idle(&self) -> io::Result<bool>;

    /// Starts watching for the close that releases it, after [`Memory::open`]; `None` if the kernel
    /// does not report that.
    ///
    /// # Errors
    /// As [`CloseWatcher::watch`].
    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        let _ = watcher;
        Ok(None)
    }

    /// Takes the right to add seals from everyone who has a descriptor: one that a client adds
    /// stays for all others.
    ///
    /// # Errors
    /// As fcntl(2); on a file without clients never.
    fn close_seals(&self) -> io::Result<()> {
        Ok(())
    }

    /// Takes note that a client gets its descriptor now. The label is shown in the kernel's own
    /// lists, where they have names.
    fn handed_out(&self, label: &Label) {
        let _ = label;
    }

    /// Checks whether keeping it pays and nothing about it was changed for good.
    ///
    /// # Errors
    /// The reason if not.
    fn worth_keeping(&self) -> Result<(), Unfit>;

    /// Makes all its pages present. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// When memory runs out; some pages may be present then.
    fn populate(&self) -> io::Result<()>;

    /// Sets every byte to zero on the calling thread, as [`Memory::wipe`] and [`Memory::cleaned`]
    /// do together. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// If it cannot be mapped; its contents are not known then.
    fn scrub(&self) -> io::Result<()> {
        let wipe = self.wipe()?;
        if wipe.finish()? == Wiped::Detached {
            self.forget_mapping();
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.cleaned();
        Ok(())
    }

    /// Prepares setting every byte to zero, by any threads. Only for memory that
    /// [`Memory::is_idle`].
    ///
    /// # Errors
    /// If it cannot be mapped.
    fn wipe(&self) -> io::Result<Wipe>;

    /// Makes the next [`Memory::wipe`] map it again: the mapping of the last one was detached.
    fn forget_mapping(&self) {}

    /// Lets devices see that every byte has been set to zero.
    fn cleaned(&self) {}

    /// Returns whether it has a block of this size that [`Memory::take_apart`] would give.
    fn has_block(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }

    /// Takes it apart and returns its blocks, in their order; none if it is in one piece, or was
    /// taken apart before. Only for memory that is not handed out again.
    fn take_apart(&self) -> Vec<blocks::Block> {
        Vec::new()
    }
}

/// Memory that is a file of its own.
pub trait File: Memory {
    /// Returns the service's own descriptor.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Keeps ranges of memory that was set aside until the file is closed: its pages, all of which
    /// are present, are counted as theirs. It is worth keeping only with all of them.
    fn hold(&mut self, lot: carveout::Lot);
}

/// Cause for which released memory is not pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A client added a seal, which cannot be removed.
    Sealed,
    /// It is the kernel's own, and goes back to it.
    Kernels,
    /// A device is not done with it.
    FencesPending,
    /// Most of it was never touched, or a client returned its pages, so that new memory is cheaper
    /// than scrubbing.
    Untouched,
}
