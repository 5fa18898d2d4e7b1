// SPDX-License-Identifier: Apache-2.0
//! Floor 3: where bytes come from. A source makes memory; it knows nothing of clients, heaps or limits.

pub mod memfd;
#[cfg(test)]
pub mod scripted;

use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes, Backing};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A maker of memory. Called without any lock held, from many threads at once.
pub trait Source: Send + Sync {
    /// What its descriptors are.
    fn backing(&self) -> Backing;

    /// Largest alignment in bytes that it can promise for a buffer's memory.
    fn max_alignment(&self) -> u64;

    /// New memory, every byte zero, that no client has ever held.
    ///
    /// # Errors
    /// As the kernel reports them; see [`is_exhaustion`].
    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>>;
}

/// The memory of one buffer, as the service holds it. Dropping it gives the service's hold up.
pub trait Memory: Send + Sync {
    /// A new descriptor for a client, with its own open file description and `access` enforced by the kernel.
    ///
    /// # Errors
    /// When descriptors run out.
    fn open(&self, access: Access) -> io::Result<OwnedFd>;

    /// The file's identity, the same through every descriptor.
    fn inode(&self) -> Inode;

    /// Whether nobody but the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not tell; then nothing is known.
    fn is_idle(&self) -> io::Result<bool>;

    /// The service's own descriptor, for watching.
    fn fd(&self) -> BorrowedFd<'_>;

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

    /// Sets every byte to zero. Only for memory that [`Memory::is_idle`].
    ///
    /// # Errors
    /// If it cannot be mapped; what is in it is not known then.
    fn scrub(&self) -> io::Result<()>;
}

/// Why released memory is not worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A client added a seal, which no file gives back.
    Sealed,
    /// Most of it was never touched: it is cheaper to make anew than to scrub.
    Untouched,
}

/// Whether an error means that memory, descriptors or kernel objects have run out, rather than that something is
/// broken: such a request may succeed later, or from another heap.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EDQUOT)
    )
}
