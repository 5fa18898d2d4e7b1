// SPDX-License-Identifier: Apache-2.0
//! Floor 4: sources, which make memory. A source does not know clients, heaps or limits. Its
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

/// A maker of memory. Callers hold no lock; many threads may call it at once.
pub trait Source: Send + Sync {
    /// Makes memory of `bytes` bytes, a multiple of [`Capabilities::granularity`]: zeroed, and
    /// never held by a client. It is for clients with this access mode: if all holders of a buffer
    /// share one open file description, the mode is fixed now. If the kernel names files of shared
    /// memory, /proc shows `name` for it from now on.
    ///
    /// # Errors
    /// If memory, room or descriptors are used up ([`SourceError::is_exhaustion`]), or as the
    /// kernel reports; `Unsupported` if such memory cannot be made.
    fn create(&self, bytes: BackedBytes, access: Access, name: &str) -> Result<Box<dyn Memory>, SourceError>;

    /// Returns the identity of the file behind `fd` if it is of this source's kind and fstat(2)
    /// does not distinguish such files; `None` for any other file.
    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        let _ = fd;
        None
    }
}

/// A source that makes files of shared memory.
pub trait FileSource: Source {
    /// Returns its properties, the same at each call.
    fn capabilities(&self) -> Capabilities;

    /// Makes a file, which /proc calls `/memfd:NAME`. Each opening of it has an access mode of its
    /// own.
    ///
    /// # Errors
    /// As the kernel reports, see [`is_exhaustion`].
    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>>;

    /// Opens a file of `bytes` bytes again that an earlier service made in the same way, through
    /// any of its descriptors.
    ///
    /// # Errors
    /// `InvalidData` if it has another size or lacks the seals of such a file; `PermissionDenied`
    /// if another uid made it; else as the kernel reports.
    fn open_file(&self, fd: BorrowedFd<'_>, bytes: BackedBytes) -> io::Result<Box<dyn File>>;
}

/// The memory of one buffer, held by the service. Its drop ends the service's hold.
pub trait Memory: Send + Sync {
    /// Returns a new descriptor for a client. The kernel enforces `access`. The descriptor has an
    /// open file description of its own if the kernel can open such memory more than once.
    ///
    /// # Errors
    /// If descriptors run out; `Unsupported` if it was created for another access.
    fn open(&self, access: Access) -> io::Result<OwnedFd>;

    /// Returns the kind of its memory.
    fn backing(&self) -> Backing;

    /// Returns its ranges of memory that was set aside, by address; none for other memory.
    fn ranges(&self) -> &[Range<u64>] {
        &[]
    }

    /// Returns the file's identity, the same through every descriptor: from fstat(2), or from
    /// [`Source::identify`].
    fn inode(&self) -> Inode;

    /// Returns whether only the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not answer; then it is unknown.
    fn is_idle(&self) -> io::Result<bool>;

    /// Starts watching for the close that releases it, after [`Memory::open`]; `None` if the kernel
    /// does not report this close.
    ///
    /// # Errors
    /// As [`CloseWatcher::watch`].
    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        let _ = watcher;
        Ok(None)
    }

    /// Prevents every descriptor from adding seals: a seal that one client adds would apply to all
    /// others.
    ///
    /// # Errors
    /// As fcntl(2). On a file without clients it does not fail.
    fn close_seals(&self) -> io::Result<()> {
        Ok(())
    }

    /// Records that a client now gets its descriptor. The kernel's lists show the label if they
    /// have names.
    fn handed_out(&self, label: &Label) {
        let _ = label;
    }

    /// Checks that keeping it is worthwhile and that no client changed it permanently.
    ///
    /// # Errors
    /// The reason why it is not kept.
    fn worth_keeping(&self) -> Result<(), Unfit>;

    /// Returns whether it had no pages when a client got it, so that those which it has were
    /// touched.
    fn is_new(&self) -> bool {
        false
    }

    /// Makes all its pages present. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// If memory runs out; some pages may be present then.
    fn populate(&self) -> io::Result<()>;

    /// Sets every byte to zero on the calling thread: [`Memory::wipe`] and [`Memory::cleaned`]
    /// together. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// If it cannot be mapped; its contents are unknown then.
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

    /// Makes the next [`Memory::wipe`] map it again, because the last mapping was detached.
    fn forget_mapping(&self) {}

    /// Makes the zeroed bytes visible to devices.
    fn cleaned(&self) {}

    /// Returns whether it has a block of this size that [`Memory::take_apart`] would return.
    fn has_block(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }

    /// Splits it and returns its blocks, in their order; none if it is in one piece, or was split
    /// before. Only for memory that no client gets again.
    fn take_apart(&self) -> Vec<blocks::Block> {
        Vec::new()
    }
}

/// Memory that is a file of its own.
pub trait File: Memory {
    /// Returns the service's own descriptor.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Holds ranges of memory that was set aside until the file is closed. Its pages, all of which
    /// are present, count as theirs. It is worth keeping only with all of them.
    fn hold(&mut self, lot: carveout::Lot);
}

/// Reason why released memory is not pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A client added a seal, which cannot be removed.
    Sealed,
    /// It belongs to the kernel and is returned to it.
    Kernels,
    /// A device still uses it.
    FencesPending,
    /// Most of it was never touched, or a client returned its pages: new memory costs less than
    /// scrubbing.
    Untouched,
}
