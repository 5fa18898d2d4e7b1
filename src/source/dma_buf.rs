// SPDX-License-Identifier: Apache-2.0
//! A dma-buf of the kernel's as a buffer's memory.
//!
//! # How its release is noticed
//! A dma-buf has one open file description, which all who hold it share, so a lease cannot tell them apart. Where the
//! kernel reports the close of that description, the service closes its own descriptor as soon as a client has one: the
//! report then means that everybody has let go. Where it does not (pseudo files notify no longer since about Linux
//! 6.14), the service keeps its descriptor and asks now and then whether that is the only reference left. Which of the
//! two holds is [proved](prove) when a source is connected.

use super::{Memory, Unfit};
use crate::sys::dma_buf::{references, set_name};
use crate::sys::fd::{Inode, inode};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::units::{Access, Backing, Label};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How the release of dma-bufs is noticed on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The kernel reports the last close.
    Reported,
    /// The references are counted.
    Counted,
}

impl Release {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reported => "inotify close event of the dma-buf",
            Self::Counted => "references of the dma-buf, counted now and then",
        }
    }
}

/// Finds out, with a dma-buf that `make` makes, how releases are noticed.
///
/// # Errors
/// `make`'s; `Unsupported` if the kernel neither reports closes nor tells the number of references.
pub fn prove(make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Release> {
    let own = make()?;
    let watcher = CloseWatcher::new()?;
    let watch = watcher.watch(&own).ok();
    let client = own.try_clone()?;
    let counts = |expected| references(&own).is_ok_and(|count| count == expected);
    let counts_two = counts(2);
    drop(client);
    let counts_one = counts(1);
    drop(own);
    let closes = watcher.closes()?;
    if watch.is_some_and(|watch| closes.watches.contains(&watch)) {
        Ok(Release::Reported)
    } else if counts_two && counts_one {
        Ok(Release::Counted)
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell when a dma-buf is released"))
    }
}

/// A dma-buf that is, or was, the service's to hand out.
pub struct DmaBuf {
    /// Until it is handed out where its release is reported; for good where it is counted.
    own: Mutex<Option<Arc<OwnedFd>>>,
    inode: Inode,
    access: Access,
    backing: Backing,
    release: Release,
    is_closed: AtomicBool,
}

impl DmaBuf {
    /// The dma-buf behind `fd`, of which there is no other descriptor.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn new(fd: OwnedFd, access: Access, backing: Backing, release: Release) -> io::Result<Self> {
        let inode = inode(&fd)?;
        let own = Mutex::new(Some(Arc::new(fd)));
        Ok(Self { own, inode, access, backing, release, is_closed: AtomicBool::new(false) })
    }

    /// The service's descriptor, if it still has one; the lock is gone when it is used.
    fn own(&self) -> Option<Arc<OwnedFd>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn held(&self) -> io::Result<Arc<OwnedFd>> {
        self.own().ok_or_else(|| io::Error::other("the dma-buf has been handed out"))
    }
}

impl Memory for DmaBuf {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        if access != self.access {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.held()?.try_clone()
    }

    fn backing(&self) -> Backing {
        self.backing
    }

    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        match self.own() {
            Some(own) => Ok(references(own.as_ref())? == 1),
            None => Ok(self.is_closed.load(Ordering::Acquire)),
        }
    }

    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        match self.release {
            Release::Reported => watcher.watch(self.held()?.as_ref()).map(Some),
            Release::Counted => Ok(None),
        }
    }

    fn handed_out(&self, label: &Label, is_watched: bool) {
        if let (Some(own), Ok(name)) = (self.own(), CString::new(label.to_string())) {
            // The name is for people alone; old kernels refuse one while a device is attached.
            let _ = set_name(own.as_ref(), &name);
        }
        if is_watched {
            let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(own);
        }
    }

    fn closed(&self) {
        self.is_closed.store(true, Ordering::Release);
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
    use crate::sys::fd::DescriptorDirectory;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn what_is_no_dma_buf_tells_of_no_release_but_by_its_close() {
        let make = || {
            let first = MemfdFactory::probe()?.create("test", 4096)?;
            // Newer kernels report nothing of a description that was not opened by a path.
            DescriptorDirectory::open()?.reopen(&first, Access::ReadWrite)
        };
        assert_eq!(prove(make).expect("its close is reported"), Release::Reported);
        let error = prove(|| Err(io::Error::from_raw_os_error(libc::ENOMEM))).expect_err("nothing made");
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn a_handed_out_buffer_is_idle_once_its_close_is_reported() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let memory = DmaBuf::new(fd, Access::ReadWrite, Backing::DmaHeap, Release::Reported).expect("a file");
        let refused = memory.open(Access::ReadOnly).expect_err("made for writing");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        let client = memory.open(Access::ReadWrite).expect("its first descriptor");
        memory.handed_out(&Label::new("test").expect("valid"), true);
        assert!(memory.open(Access::ReadWrite).is_err() && !memory.is_idle().expect("known"));
        drop(client);
        memory.closed();
        assert!(memory.is_idle().expect("known"));
    }
}
