// SPDX-License-Identifier: Apache-2.0
//! A dma-buf of the kernel as a buffer's memory.
//!
//! # How its release is detected
//! A dma-buf has one open file description, which all holders share, so a lease cannot distinguish
//! them. The service keeps a descriptor of its own and polls whether that is the only reference
//! left: descriptors, mappings, copies in flight and importing devices all count. Close events
//! would avoid the polling, but only if the service closed its descriptor, and then nothing could
//! confirm them. Kernels up to about 6.11 report the close of an `O_PATH` descriptor, too, so a
//! client could forge its release. A queue that overflowed would lose it permanently. Newer kernels
//! report nothing of pseudo files.

use super::export::{Export, POOLED_NAME};
use super::{Memory, Unfit};
use crate::sys::dma_buf::{CpuAccess, Phase, is_dma_buf, is_settled, set_name, sync};
use crate::sys::fd::{Inode, inode};
use crate::sys::map::SharedMap;
use crate::sys::references::ReferenceCounts;
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, Label};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence, lseek};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Tests, with a dma-buf that `make` makes, that the kernel reports its number of references, also
/// without a free descriptor.
///
/// # Errors
/// `make`'s; `Unsupported` if the kernel does not report it.
pub fn prove(counts: &ReferenceCounts, make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<()> {
    let own = make()?;
    let client = own.try_clone()?;
    let counted = || counts.of(&own).ok().zip(counts.of_by_slot(&own).ok());
    let with_client = counted();
    drop(client);
    if (with_client, counted()) == (Some((2, 2)), Some((1, 1))) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not report the release of a dma-buf"))
    }
}

/// A dma-buf that the service gives to clients.
pub struct DmaBuf {
    fd: OwnedFd,
    inode: Inode,
    access: Access,
    backing: Backing,
    counts: Arc<ReferenceCounts>,
    /// Its size if it is cleaned and reused.
    recycled: Option<BackedBytes>,
}

impl DmaBuf {
    /// Wraps the dma-buf behind `fd`, its only descriptor.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn new(
        fd: OwnedFd,
        access: Access,
        backing: Backing,
        counts: &Arc<ReferenceCounts>,
    ) -> io::Result<Self> {
        let inode = inode(&fd)?;
        Ok(Self { fd, inode, access, backing, counts: Arc::clone(counts), recycled: None })
    }

    /// Does the same as [`DmaBuf::new`], for a dma-buf of `bytes` bytes that is pooled after its
    /// release if `recycles`.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn of_kernel(
        fd: OwnedFd,
        access: Access,
        backing: Backing,
        counts: &Arc<ReferenceCounts>,
        bytes: BackedBytes,
        recycles: bool,
    ) -> io::Result<Self> {
        // A dma-buf that cannot be mapped for writing cannot be cleaned.
        let recycled = (recycles && access == Access::ReadWrite).then_some(bytes);
        Ok(Self { recycled, ..Self::new(fd, access, backing, counts)? })
    }

    /// Wraps a dma-buf of `bytes` bytes that an earlier service made. It is never pooled.
    ///
    /// # Errors
    /// `InvalidData` if it is no dma-buf or has another size; else as fcntl(2) and lseek(2).
    pub fn again(
        fd: OwnedFd,
        bytes: BackedBytes,
        backing: Backing,
        counts: &Arc<ReferenceCounts>,
    ) -> io::Result<Self> {
        let invalid = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if !is_dma_buf(&fd) {
            return invalid("it is no dma-buf".to_owned());
        }
        let size = lseek(&fd, 0, Whence::SeekEnd)?;
        if u64::try_from(size) != Ok(bytes.get()) {
            return invalid(format!("it has {size} bytes instead of {}", bytes.get()));
        }
        let mode = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
        let access = if mode == OFlag::O_RDONLY { Access::ReadOnly } else { Access::ReadWrite };
        Self::new(fd, access, backing, counts)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Memory for DmaBuf {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        if access != self.access {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.fd.try_clone()
    }

    fn backing(&self) -> Backing {
        self.backing
    }

    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        Ok(self.counts.of(&self.fd)? == 1)
    }

    fn handed_out(&self, label: &Label) {
        self.set_label(label);
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        match self.recycled {
            None => Err(Unfit::Kernels),
            Some(_) if !self.is_settled() => Err(Unfit::FencesPending),
            Some(_) => Ok(()),
        }
    }

    /// Does nothing: the kernel's heaps allocate a buffer's pages when they make it.
    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    /// Maps it only while it is cleaned: a permanent mapping would count as a holder.
    fn wipe(&self) -> io::Result<Wipe> {
        let bytes = self.recycled.ok_or(io::ErrorKind::Unsupported)?.get();
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let mapping = SharedMap::new(&self.fd, bytes, Access::ReadWrite)?;
        sync(&self.fd, CpuAccess::ReadWrite, Phase::Start)?;
        self.set_name(POOLED_NAME);
        Ok(Wipe::new(vec![(Arc::new(mapping), 0..bytes)]).with_temporary_mappings())
    }

    fn cleaned(&self) {
        // Fails for memory that was never mapped for a device; nothing needs to be written back
        // then.
        let _ = sync(&self.fd, CpuAccess::ReadWrite, Phase::End);
    }
}

impl Export for DmaBuf {
    fn open(&self) -> io::Result<OwnedFd> {
        Memory::open(self, Access::ReadWrite)
    }

    fn inode(&self) -> Inode {
        Memory::inode(self)
    }

    fn is_idle(&self) -> io::Result<bool> {
        Memory::is_idle(self)
    }

    fn is_settled(&self) -> bool {
        is_settled(self.fd()).unwrap_or(false)
    }

    fn set_name(&self, name: &CStr) {
        // Old kernels refuse a name while a device is attached.
        let _ = set_name(self.fd(), name);
    }

    fn written(&self) {
        // Writes back CPU caches for a device mapping that a client's own access left. Later
        // mappings are clean from the start. Without such a mapping the driver answers EINVAL, and
        // nothing is necessary. This begins no access, since that would make the mapping.
        let _ = sync(self.fd(), CpuAccess::ReadWrite, Phase::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;
    use crate::units::RequestedBytes;

    #[test]
    fn proving_reference_counts_fails_for_a_file_that_is_no_dma_buf() {
        let counts = ReferenceCounts::open().expect("/proc");
        let error =
            prove(&counts, || MemfdFactory::probe()?.create("test", 4096)).expect_err("a memfd has no count");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let error =
            prove(&counts, || Err(io::Error::from_raw_os_error(libc::ENOMEM))).expect_err("nothing made");
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn the_kernels_own_is_kept_and_cleaned_only_if_it_is_to_be_recycled() {
        let bytes = RequestedBytes(8192).round_up(1).expect("valid");
        let counts = Arc::new(ReferenceCounts::open().expect("/proc"));
        let of = |recycles, access| {
            let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
            DmaBuf::of_kernel(fd, access, Backing::DmaHeap, &counts, bytes, recycles).expect("a file")
        };
        for memory in [of(false, Access::ReadWrite), of(true, Access::ReadOnly)] {
            assert_eq!(memory.worth_keeping(), Err(Unfit::Kernels));
            assert!(memory.scrub().is_err());
        }
        let memory = of(true, Access::ReadWrite);
        let client = Memory::open(&memory, Access::ReadWrite).expect("opened");
        SharedMap::new(&client, 8192, Access::ReadWrite).expect("mapped").fill(7).expect("writable");
        assert_eq!(memory.worth_keeping(), Ok(()));
        memory.scrub().expect("mapped");
        assert!(SharedMap::new(&client, 8192, Access::ReadOnly).expect("mapped").is_zero());
    }

    #[test]
    fn a_dma_buf_has_the_access_it_was_made_with() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let counts = Arc::new(ReferenceCounts::open().expect("/proc"));
        let memory = DmaBuf::new(fd, Access::ReadWrite, Backing::DmaHeap, &counts).expect("a file");
        let refused = Memory::open(&memory, Access::ReadOnly).expect_err("made for writing");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert!(Memory::open(&memory, Access::ReadWrite).is_ok());
    }
}
