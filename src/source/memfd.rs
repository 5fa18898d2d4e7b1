// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds: shared memory on any Linux, without privilege.

use super::carveout::Lot;
use super::{Capabilities, File, FileSource, Memory, Source, SourceError, Unfit};
use crate::sys::fd::{DescriptorDirectory, Inode, inode, resident_bytes, size_and_owner};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::lease::is_only_holder;
use crate::sys::map::SharedMap;
use crate::sys::memfd::{MemfdFactory, allocate_pages, close_seals, has_only_size_seals, is_sealed};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, PageSize};
use nix::unistd::geteuid;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most mappings that the files of one source keep: a quarter of those that a process may have by
/// default (`vm.max_map_count`, 65530). Without a limit, the mappings of many small buffers leave
/// none for thread stacks and for malloc(3).
const MOST_MAPPINGS: usize = 16 << 10;

/// Makes one memfd for each buffer.
#[derive(Debug)]
pub struct MemfdSource {
    factory: MemfdFactory,
    descriptors: Arc<DescriptorDirectory>,
    page: PageSize,
    backing: Backing,
    /// Whether each file gets all its pages when it is made.
    populates: bool,
    /// The uid that owns the files. Read once, since the seccomp filter does not permit the call.
    owner: u32,
    /// Number of kept mappings.
    kept: Arc<AtomicUsize>,
}

impl MemfdSource {
    /// Probes for memfds of ordinary pages.
    ///
    /// # Errors
    /// If the kernel has no memfds, or /proc is not mounted.
    pub fn new(page: PageSize) -> io::Result<Self> {
        Self::with(MemfdFactory::probe()?, page, Backing::Memfd)
    }

    /// Wraps a maker of files of `page`s.
    ///
    /// # Errors
    /// If /proc is not mounted.
    pub(crate) fn with(factory: MemfdFactory, page: PageSize, backing: Backing) -> io::Result<Self> {
        let descriptors = Arc::new(DescriptorDirectory::open()?);
        let owner = geteuid().as_raw();
        Ok(Self { factory, descriptors, page, backing, populates: false, owner, kept: Arc::default() })
    }

    /// Gives each file all its pages when it is made. They come from the pages that the
    /// administrator set aside, so a client that touches one always finds it present.
    pub(super) fn populating(self) -> Self {
        Self { populates: true, ..self }
    }
}

impl Source for MemfdSource {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(self.create_file(bytes, name)?)
    }
}

impl FileSource for MemfdSource {
    fn capabilities(&self) -> Capabilities {
        let of_pages = Capabilities::of_pieces(self.backing, self.page.bytes());
        Capabilities { is_machine_memory: !self.populates, ..of_pages }
    }

    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>> {
        let first = self.factory.create(name, bytes.get())?;
        let file = self.own(&first, bytes)?;
        if self.populates {
            allocate_pages(&file.fd, 0..bytes.get())?;
        }
        Ok(Box::new(file))
    }

    fn open_file(&self, fd: BorrowedFd<'_>, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        let invalid = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if !is_sealed(fd) {
            return invalid("it lacks the seals of the service's files".to_owned());
        }
        let (size, owner) = size_and_owner(fd)?;
        if owner != self.owner {
            let why = format!("uid {owner} made it, but this service has uid {}", self.owner);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if size != bytes.get() {
            return invalid(format!("it has {size} bytes instead of {}", bytes.get()));
        }
        Ok(Box::new(self.own(fd, bytes)?))
    }
}

impl MemfdSource {
    /// Opens a file with a description of the service's own.
    fn own(&self, file: impl AsFd, bytes: BackedBytes) -> io::Result<Memfd> {
        // Leases count only descriptions that were opened through a path.
        let fd = self.descriptors.reopen(&file, Access::ReadWrite)?;
        let inode = inode(&fd)?;
        let (bytes, backing) = (bytes.get(), self.backing);
        let (descriptors, kept) = (Arc::clone(&self.descriptors), Arc::clone(&self.kept));
        let mapping = Mutex::default();
        let least_resident = if self.populates { bytes } else { bytes / 2 };
        let (lot, seals_closed) = (None, AtomicBool::new(false));
        Ok(Memfd { fd, bytes, backing, inode, descriptors, least_resident, kept, mapping, lot, seals_closed })
    }
}

/// One file. Fields are dropped in this order: the file is closed before its ranges are returned.
struct Memfd {
    fd: OwnedFd,
    bytes: u64,
    backing: Backing,
    inode: Inode,
    descriptors: Arc<DescriptorDirectory>,
    /// Bytes that must have pages, or it is not worth keeping. If all had pages at first, and a
    /// client returned some, its next owner could find pages missing.
    least_resident: u64,
    /// Number of kept mappings of all files of its source.
    kept: Arc<AtomicUsize>,
    /// Made when it is first cleaned or populated, and kept unless there are [`MOST_MAPPINGS`]:
    /// mapping again costs more than cleaning. The lock is a leaf, and no thread makes a system
    /// call while it holds it.
    mapping: Mutex<Option<Kept>>,
    lot: Option<Lot>,
    /// Whether no descriptor can add seals.
    seals_closed: AtomicBool,
}

/// A kept mapping, which is counted until its drop.
struct Kept {
    map: Arc<SharedMap>,
    count: Arc<AtomicUsize>,
}

impl Kept {
    /// Counts a mapping; `None` if [`MOST_MAPPINGS`] are kept.
    fn new(map: Arc<SharedMap>, count: &Arc<AtomicUsize>) -> Option<Self> {
        // Its drop subtracts it again.
        let before = count.fetch_add(1, Ordering::Relaxed);
        let kept = Self { map, count: Arc::clone(count) };
        (before < MOST_MAPPINGS).then_some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Memfd {
    fn mapping(&self) -> Option<Arc<SharedMap>> {
        let mapping = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        mapping.as_ref().map(|kept| Arc::clone(&kept.map))
    }

    fn keep(&self, mapping: Option<Arc<SharedMap>>) {
        let kept = mapping.and_then(|map| Kept::new(map, &self.kept));
        let before =
            std::mem::replace(&mut *self.mapping.lock().unwrap_or_else(PoisonError::into_inner), kept);
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

    fn ranges(&self) -> &[Range<u64>] {
        self.lot.as_ref().map_or(&[], Lot::ranges)
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

    fn close_seals(&self) -> io::Result<()> {
        close_seals(&self.fd)?;
        self.seals_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        if !self.seals_closed.load(Ordering::Relaxed) && !has_only_size_seals(&self.fd) {
            return Err(Unfit::Sealed);
        }
        let is_populated = resident_bytes(&self.fd).is_ok_and(|resident| resident >= self.least_resident);
        if is_populated { Ok(()) } else { Err(Unfit::Untouched) }
    }

    fn is_new(&self) -> bool {
        self.least_resident < self.bytes && self.mapping().is_none()
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

    fn hold(&mut self, lot: Lot) {
        self.least_resident = self.bytes;
        self.lot = Some(lot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wipe::Wiped;
    use crate::units::RequestedBytes;

    #[test]
    fn only_so_many_mappings_are_kept_and_memory_is_cleaned_without_one() {
        let source = MemfdSource::new(PageSize::new(4096).expect("valid")).expect("memfds");
        source.kept.store(MOST_MAPPINGS - 1, Ordering::Relaxed);
        let bytes = RequestedBytes(1).round_up(source.capabilities().granularity).expect("valid");
        let make = || source.create(bytes, Access::ReadWrite, "test").expect("made");
        let (first, second) = (make(), make());
        for memory in [&first, &second] {
            memory.populate().expect("populated");
            assert_eq!(memory.wipe().and_then(|wipe| wipe.finish()).expect("cleaned"), Wiped::Zero);
            assert_eq!(source.kept.load(Ordering::Relaxed), MOST_MAPPINGS);
        }
        drop(second);
        assert_eq!(source.kept.load(Ordering::Relaxed), MOST_MAPPINGS);
        drop(first);
        assert_eq!(source.kept.load(Ordering::Relaxed), MOST_MAPPINGS - 1);
    }
}
