// SPDX-License-Identifier: Apache-2.0
//! A dma-buf of the kernel's as a buffer's memory.
//!
//! # How its release is noticed
//! A dma-buf has one open file description, which all who hold it share, so a lease cannot tell them apart. The service
//! keeps a descriptor of its own and asks now and then whether that is the only reference left: descriptors, mappings,
//! copies in flight and importing devices all count. Close events would spare the asking, but only if the service gave its
//! descriptor up, and then nothing could confirm them: kernels up to about 6.11 report the close of an `O_PATH` descriptor,
//! too, so that a client could forge its release; a queue that overflowed would lose it for good; and newer kernels report
//! nothing of pseudo files.

use super::{Memory, Unfit};
use crate::sys::dma_buf::{references, set_name};
use crate::sys::fd::{Inode, inode};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::units::{Access, Backing, Label};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

/// Proves, with a dma-buf that `make` makes, that the kernel tells how many references one has.
///
/// # Errors
/// `make`'s; `Unsupported` if the kernel does not tell.
pub fn prove(make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<()> {
    let own = make()?;
    let client = own.try_clone()?;
    let counts = |expected| references(&own).is_ok_and(|count| count == expected);
    let counts_two = counts(2);
    drop(client);
    if counts_two && counts(1) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell when a dma-buf is released"))
    }
}

/// A dma-buf that is the service's to hand out.
pub struct DmaBuf {
    fd: OwnedFd,
    inode: Inode,
    access: Access,
    backing: Backing,
}

impl DmaBuf {
    /// The dma-buf behind `fd`, of which there is no other descriptor.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn new(fd: OwnedFd, access: Access, backing: Backing) -> io::Result<Self> {
        let inode = inode(&fd)?;
        Ok(Self { fd, inode, access, backing })
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
        Ok(references(&self.fd)? == 1)
    }

    fn watch(&self, _: &CloseWatcher) -> io::Result<Option<Watch>> {
        Ok(None)
    }

    fn handed_out(&self, label: &Label) {
        if let Ok(name) = CString::new(label.to_string()) {
            // The name is for people alone; old kernels refuse one while a device is attached.
            let _ = set_name(&self.fd, &name);
        }
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        Err(Unfit::Kernels)
    }

    /// The kernel's heaps put pages behind a buffer when they make it.
    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    fn scrub(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn what_is_no_dma_buf_tells_of_no_release() {
        let error = prove(|| MemfdFactory::probe()?.create("test", 4096)).expect_err("a memfd has no count");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let error = prove(|| Err(io::Error::from_raw_os_error(libc::ENOMEM))).expect_err("nothing made");
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn a_dma_buf_has_the_access_it_was_made_with() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let memory = DmaBuf::new(fd, Access::ReadWrite, Backing::DmaHeap).expect("a file");
        let refused = memory.open(Access::ReadOnly).expect_err("made for writing");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert!(memory.open(Access::ReadWrite).is_ok());
    }
}
