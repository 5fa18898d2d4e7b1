// SPDX-License-Identifier: Apache-2.0
//! Floor 4: where bytes come from. A source makes memory; it knows nothing of clients, heaps or limits.

pub mod arena;
pub mod ashmem;
pub mod blocks;
pub mod carveout;
pub mod dma_buf;
pub mod dma_heap;
pub mod export;
pub mod hugetlb;
pub mod ion;
pub mod memfd;
pub mod ordered;
pub mod release;
#[cfg(test)]
pub mod scripted;
pub mod udmabuf;

pub use self::release::ReleaseMechanism;
use crate::pool::{Arena, FreeBytes, Incomplete};
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::wipe::{Wipe, Wiped};
use crate::units::{Access, BackedBytes, Backing, Label};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A maker of memory. Called without any lock held, from many threads at once.
pub trait Source: Send + Sync {
    /// What its descriptors are; of one that mixes them, what it gives first.
    fn backing(&self) -> Backing;

    /// What its descriptors can be.
    fn backings(&self) -> Vec<Backing> {
        vec![self.backing()]
    }

    /// Largest alignment in bytes that it can promise: a buffer's memory consists of physical pieces of at least this
    /// size that start at a multiple of it, and the kernel maps it at one unless the client insists on another
    /// address.
    fn max_alignment(&self) -> u64;

    /// Sizes must be a multiple of this many bytes, a power of two.
    fn granule(&self) -> u64 {
        self.max_alignment()
    }

    /// Largest buffer in bytes that is surely in one physical piece.
    fn contiguous_bytes(&self) -> u64 {
        self.max_alignment()
    }

    /// Most bytes of one buffer, whatever there is.
    fn max_bytes(&self) -> u64 {
        u64::MAX
    }

    /// A picture of which bytes of the memory that was set aside are in use; `None` if none was. Takes time in
    /// proportion to the number of free pieces.
    fn arena(&self) -> Option<Arena> {
        None
    }

    /// Free bytes of the memory that was set aside; `None` if none was.
    fn free_bytes(&self) -> Option<FreeBytes> {
        None
    }

    /// Whether every one of its buffers is a dma-buf.
    fn gives_dma_bufs(&self) -> bool {
        self.backing().is_dma_buf()
    }

    /// Whether its buffers can be had with this access.
    fn gives(&self, access: Access) -> bool {
        let _ = access;
        true
    }

    /// Most descriptors of the service that one buffer takes.
    fn descriptors(&self) -> u64 {
        1
    }

    /// Whether it runs short only when the machine does. Otherwise nobody else's memory can help it.
    fn is_machine_memory(&self) -> bool {
        true
    }

    /// Whether it had nothing left when it was to prove that it works: others may have taken all, or it may be broken.
    fn is_dry(&self) -> bool {
        false
    }

    /// Whether memory that clients let go of can be handed out again. What the kernel's own heaps gave goes back to
    /// them, unless the heap's configuration says otherwise.
    fn recycles(&self) -> bool {
        true
    }

    /// Itself, if it can make a buffer of blocks that others had; `None` if buffers are made whole alone.
    fn blocks(&self) -> Option<&blocks::BlockSource> {
        None
    }

    /// The file behind `fd` if it is one of this source's kind that fstat(2) does not tell apart; `None` for any other.
    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        let _ = fd;
        None
    }

    /// New memory, every byte zero, that no client has ever held.
    ///
    /// # Errors
    /// As the kernel reports them; see [`is_exhaustion`].
    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>>;

    /// As [`Source::create`], for clients that get this access: where a buffer has one description alone, it is decided
    /// now.
    ///
    /// # Errors
    /// As [`Source::create`]; `Unsupported` if such memory cannot be made.
    fn create_for(&self, bytes: BackedBytes, access: Access) -> io::Result<Box<dyn Memory>> {
        let _ = access;
        self.create(bytes)
    }
}

/// A source whose memory is files of shared memory.
pub trait FileSource: Source {
    /// As [`Source::create`].
    ///
    /// # Errors
    /// As [`Source::create`].
    fn create_file(&self, bytes: BackedBytes) -> io::Result<Box<dyn File>>;
}

/// The memory of one buffer, as the service holds it. Dropping it gives the service's hold up.
pub trait Memory: Send + Sync {
    /// A new descriptor for a client, with `access` enforced by the kernel, and an open file description of its own
    /// where the kernel opens such memory more than once.
    ///
    /// # Errors
    /// When descriptors run out; `Unsupported` if it was created for another access.
    fn open(&self, access: Access) -> io::Result<OwnedFd>;

    /// What its descriptors are.
    fn backing(&self) -> Backing;

    /// The ranges that it takes of its source's arena, by address; none if it lies anywhere.
    fn ranges(&self) -> &[Range<u64>] {
        &[]
    }

    /// The file's identity, the same through every descriptor: what fstat(2) tells, else [`Source::identify`].
    fn inode(&self) -> Inode;

    /// Whether nobody but the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not tell; then nothing is known.
    fn is_idle(&self) -> io::Result<bool>;

    /// Starts watching for the close that releases it, after [`Memory::open`]; `None` if the kernel does not report that.
    ///
    /// # Errors
    /// As [`CloseWatcher::watch`].
    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>>;

    /// A client gets its descriptor now. The label is for whoever looks at the kernel's own lists.
    fn handed_out(&self, label: &Label) {
        let _ = label;
    }

    /// Whether keeping it pays and nothing about it was changed for good.
    ///
    /// # Errors
    /// Why not.
    fn worth_keeping(&self) -> Result<(), Unfit>;

    /// Makes all its pages present. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// When memory runs out; some pages may be present then.
    fn populate(&self) -> io::Result<()>;

    /// Sets every byte to zero on the calling thread, as [`Memory::wipe`] and [`Memory::cleaned`] do together. Only for
    /// memory that [`Memory::is_idle`].
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

    /// Prepares setting every byte to zero, by any threads. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// If it cannot be mapped.
    fn wipe(&self) -> io::Result<Wipe>;

    /// Makes the next [`Memory::wipe`] map it again: the mapping of the last one was detached.
    fn forget_mapping(&self) {}

    /// Every byte has been set to zero: lets devices see it.
    fn cleaned(&self) {}

    /// Whether it has a block of this size that [`Memory::take_apart`] would give.
    fn has_block(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }

    /// Its blocks, in their order; none if it is in one piece, or was taken apart before. Only for memory that nobody
    /// will have again.
    fn take_apart(&self) -> Vec<blocks::Block> {
        Vec::new()
    }
}

/// Memory that is a file of its own.
pub trait File: Memory {
    /// The service's own descriptor.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// Why released memory is not worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A client added a seal, which no file gives back.
    Sealed,
    /// It is the kernel's own, and goes back to it.
    Kernels,
    /// A device is not done with it.
    FencesPending,
    /// Most of it was never touched, or was given back, and is cheaper to make anew than to scrub.
    Untouched,
}

/// Memory that was set aside has enough free bytes for a buffer, but no free piece is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{asked} bytes asked in one piece, but the longest of {free} free bytes has {longest}")]
pub struct Fragmented {
    /// Bytes of the buffer.
    pub asked: u64,
    /// Free bytes in all.
    pub free: u64,
    /// Bytes of the longest free piece.
    pub longest: u64,
}

/// Why an arena with these free bytes cannot give `asked` bytes. An arena that has not even that many free is plainly
/// out of memory.
pub fn arena_is_full(asked: u64, free: FreeBytes) -> io::Error {
    if free.total < asked {
        return io::Error::from_raw_os_error(libc::ENOMEM);
    }
    io::Error::other(Fragmented { asked, free: free.total, longest: free.largest })
}

/// Whether an error is [`Fragmented`], or memory lies in more pieces than one buffer can have ([`Incomplete`]).
pub fn is_fragmentation(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Fragmented>() || inner.is::<Incomplete>())
}

/// Whether an error means that memory has run out, rather than descriptors.
pub fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOSPC))
}

/// Whether an error means that memory, descriptors or kernel objects have run out, rather than that something is
/// broken: such a request may succeed later, or from another heap.
pub fn is_exhaustion(error: &io::Error) -> bool {
    is_fragmentation(error)
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EDQUOT)
        )
}
