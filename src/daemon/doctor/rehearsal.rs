// SPDX-License-Identifier: Apache-2.0
//! A machine from which heaps are built without taking memory. Memory to be set aside is only
//! counted, over all heaps, so that two heaps do not count the same memory.

use crate::heap::{KernelDevices, Machine};
use crate::source::arena::{KernelPages, Pages};
use crate::source::hugetlb::NoHugePages;
use crate::source::memfd::MemfdSource;
use crate::source::release::{ReleaseError, prove_optional};
use crate::source::{Capabilities, File, FileSource, Memory, ReleaseMechanism, Source, SourceError, hugetlb};
use crate::sys::inotify::CloseWatcher;
use crate::sys::memory::{HugePages, huge_pages, total_bytes};
use crate::sys::references::ReferenceCounts;
use crate::sys::{dma_heap, fd};
use crate::units::{Access, BackedBytes, PageSize, RequestedBytes};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns this machine. Devices and files are real, for a page each; limits of the kernel's stay
/// as they are.
///
/// # Errors
/// If the kernel has no memfds, or does not report how much memory there is.
pub(crate) fn machine(page: PageSize) -> io::Result<Machine> {
    Ok(Machine {
        page,
        memory_bytes: total_bytes()?,
        memfd: Arc::new(MemfdSource::new(page)?),
        hugetlb: hugetlb().map_err(Arc::new),
        huge_releases: huge_releases().map_err(Arc::new),
        devices: Arc::new(KernelDevices {
            page,
            dma_heaps: PathBuf::from(dma_heap::DIRECTORY),
            counts: Arc::new(ReferenceCounts::open()?),
        }),
        pages: Arc::new(OrdinaryPages { page, counted: AtomicU64::new(0) }),
        raises_limits: false,
        // `proofs` tests this; it decides nothing here.
        file_releases: ReleaseMechanism::CloseEvents,
    })
}

fn hugetlb() -> Result<Arc<dyn FileSource>, NoHugePages> {
    let source = hugetlb::connect()?;
    let pages = huge_pages()?.ok_or(NoHugePages::Unknown)?;
    Ok(Arc::new(HugeFiles { source: Arc::new(source), pages, counted: AtomicU64::new(0) }))
}

/// Checks whether clients could make such files themselves.
fn huge_releases() -> Result<(), ReleaseError> {
    hugetlb::connect().map_or(Ok(()), |source| prove_optional(&source, &CloseWatcher::new()))
}

/// Ordinary pages, which are only counted.
struct OrdinaryPages {
    page: PageSize,
    counted: AtomicU64,
}

impl Pages for OrdinaryPages {
    fn available(&self) -> io::Result<u64> {
        Ok(KernelPages.available()?.saturating_sub(self.counted.load(Ordering::Relaxed)))
    }

    /// Counts the pages, except those of files of huge pages, which are counted when the files are
    /// made.
    fn allocate(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        if fd::block_bytes(file)? <= self.page.bytes() {
            self.counted.fetch_add(range.end.saturating_sub(range.start), Ordering::Relaxed);
        }
        Ok(())
    }

    fn punch(&self, _file: BorrowedFd<'_>, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }
}

/// Files of huge pages. Each has one page; the requested size is only counted.
struct HugeFiles {
    source: Arc<dyn FileSource>,
    pages: HugePages,
    counted: AtomicU64,
}

impl HugeFiles {
    /// Counts `bytes` more bytes if they are available. A single page is tried and not counted.
    ///
    /// # Errors
    /// `ENOSPC` if fewer are available.
    fn count(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.pages.bytes {
            return Ok(());
        }
        let counted = self.counted.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let free = self.pages.free.saturating_add(self.pages.overcommit).saturating_mul(self.pages.bytes);
        if counted > free { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }
}

impl Source for HugeFiles {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(self.create_file(bytes, name)?)
    }
}

impl FileSource for HugeFiles {
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }

    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>> {
        self.count(bytes.get())?;
        let one = RequestedBytes(1).round_up(self.capabilities().granularity).map_err(io::Error::other)?;
        self.source.create_file(one, name)
    }

    fn open_file(&self, fd: BorrowedFd<'_>, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        self.source.open_file(fd, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;
    use crate::sys::memory::page_size;
    use std::os::fd::AsFd;

    #[test]
    fn counted_pages_are_no_longer_available_and_none_is_allocated() {
        let pages = OrdinaryPages { page: page_size().expect("sysconf"), counted: AtomicU64::new(0) };
        let file = MemfdFactory::probe().expect("memfd").create("test", 1 << 40).expect("a file");
        assert!(pages.available().expect("/proc") > 0);
        pages.allocate(file.as_fd(), 0..1 << 40).expect("counted");
        assert_eq!(pages.available().expect("/proc"), 0);
        assert_eq!(fd::resident_bytes(&file).expect("fstat"), 0);
    }

    #[test]
    fn files_of_huge_pages_are_counted_against_the_free_ones_and_have_one_each() {
        let page = page_size().expect("sysconf");
        let pages = HugePages { bytes: page.bytes(), total: 4, free: 3, overcommit: 1 };
        let source: Arc<dyn FileSource> = Arc::new(MemfdSource::new(page).expect("memfd"));
        let files = HugeFiles { source, pages, counted: AtomicU64::new(0) };
        let file = |count: i64| {
            let bytes = RequestedBytes(count * i64::try_from(page.bytes()).expect("small"));
            files.create_file(bytes.round_up(page.bytes()).expect("whole pages"), "test")
        };
        // Every heap tries a page and returns it.
        for _ in 0..9 {
            file(1).expect("a trial");
        }
        let two = file(2).expect("of four");
        assert_eq!(nix::sys::stat::fstat(two.fd()).expect("fstat").st_size.unsigned_abs(), page.bytes());
        file(2).expect("the other two");
        let error = file(2).err().expect("none is left");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
