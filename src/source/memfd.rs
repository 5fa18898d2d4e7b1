// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds: shared memory on any Linux, without privilege.

use super::{File, FileSource, Memory, Source, Unfit};
use crate::sys::fd::{DescriptorDirectory, Inode, inode, resident_bytes};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::lease::is_only_holder;
use crate::sys::map::SharedMap;
use crate::sys::memfd::{MemfdFactory, has_only_size_seals};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, PageSize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Name that maps of processes show for every buffer: `/memfd:anion`.
const FILE_NAME: &str = "anion";

/// Makes one memfd for each buffer.
#[derive(Debug)]
pub struct MemfdSource {
    factory: MemfdFactory,
    descriptors: Arc<DescriptorDirectory>,
    page: PageSize,
    backing: Backing,
}

impl MemfdSource {
    /// # Errors
    /// If the kernel has no memfds, or /proc is not mounted.
    pub fn new(page: PageSize) -> io::Result<Self> {
        Self::with(MemfdFactory::probe()?, page, Backing::Memfd)
    }

    /// Files of `page`s, which are what `factory` makes.
    pub(crate) fn with(factory: MemfdFactory, page: PageSize, backing: Backing) -> io::Result<Self> {
        let descriptors = Arc::new(DescriptorDirectory::open()?);
        Ok(Self { factory, descriptors, page, backing })
    }
}

impl Source for MemfdSource {
    fn backing(&self) -> Backing {
        self.backing
    }

    fn max_alignment(&self) -> u64 {
        self.page.bytes()
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        Ok(self.create_file(bytes)?)
    }
}

impl FileSource for MemfdSource {
    fn create_file(&self, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        let first = self.factory.create(FILE_NAME, bytes.get())?;
        // Leases count only descriptions that were opened through a path, so the first one is replaced.
        let fd = self.descriptors.reopen(&first, Access::ReadWrite)?;
        let inode = inode(&fd)?;
        let (descriptors, backing) = (Arc::clone(&self.descriptors), self.backing);
        Ok(Box::new(Memfd { fd, bytes: bytes.get(), backing, inode, descriptors, mapping: Mutex::default() }))
    }
}

struct Memfd {
    fd: OwnedFd,
    bytes: u64,
    backing: Backing,
    inode: Inode,
    descriptors: Arc<DescriptorDirectory>,
    /// Made when it is first cleaned or populated, and kept: mapping again costs more than cleaning. The lock is a leaf,
    /// and no system call is made while it is held.
    mapping: Mutex<Option<Arc<SharedMap>>>,
}

impl Memfd {
    fn mapping(&self) -> Option<Arc<SharedMap>> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, mapping: Option<Arc<SharedMap>>) {
        let before =
            std::mem::replace(&mut *self.mapping.lock().unwrap_or_else(PoisonError::into_inner), mapping);
        drop(before);
    }

    fn len(&self) -> io::Result<usize> {
        usize::try_from(self.bytes).map_err(io::Error::other)
    }
}

impl Memory for Memfd {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        self.descriptors.reopen(&self.fd, access)
    }

    fn backing(&self) -> Backing {
        self.backing
    }

    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        is_only_holder(&self.fd)
    }

    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        watcher.watch(&self.fd).map(Some)
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        if !has_only_size_seals(&self.fd) {
            return Err(Unfit::Sealed);
        }
        let populated = resident_bytes(&self.fd).is_ok_and(|resident| resident >= self.bytes / 2);
        if populated { Ok(()) } else { Err(Unfit::Untouched) }
    }

    fn populate(&self) -> io::Result<()> {
        if self.mapping().is_none() {
            self.keep(Some(Arc::new(SharedMap::populated(&self.fd, self.len()?)?)));
        }
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        let len = self.len()?;
        let kept = self.mapping();
        let is_new = kept.is_none();
        let mapping = match kept {
            Some(mapping) => mapping,
            None => Arc::new(SharedMap::sparse(&self.fd, len)?),
        };
        if is_new {
            self.keep(Some(Arc::clone(&mapping)));
        }
        Ok(Wipe::new(vec![(mapping, 0..len)]).with_new_mappings(is_new))
    }

    fn forget_mapping(&self) {
        self.keep(None);
    }
}

impl File for Memfd {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
