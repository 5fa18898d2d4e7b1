// SPDX-License-Identifier: Apache-2.0
//! Regions of Android's shared memory device.
//!
//! # Holders of a region
//! The kernel does not report them: a region has one open file description that all holders share,
//! without a count or events. So a region is charged to its owner until the owner drops the
//! buffer's token. Then the service closes it. Other holders keep it, the kernel frees it after the
//! last of them, and its memory is never reused.
//!
//! # What its owner cannot change
//! A region's name and size are fixed once a process maps it, so the service maps it first. Write
//! access is the same for all holders: a read-only region is made so, permanently, before a client
//! gets it.

#[cfg(test)]
pub(crate) mod tests;

use super::{Capabilities, Memory, Opened, ReleaseMechanism, Source, SourceError, Unfit};
use crate::sys::ashmem::{self, Ashmem};
use crate::sys::fd::Inode;
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, PageSize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of every buffer in the maps of processes: `/dev/ashmem/anion`.
const NAME: &std::ffi::CStr = c"anion";

/// Reason why ashmem cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoAshmem {
    /// The kernel has none, or it is not permitted to the service.
    #[error("/dev/ashmem cannot be opened: {0}")]
    Device(io::Error),
    /// It does not behave as required.
    #[error("/dev/ashmem does not work: {0}")]
    Broken(io::Error),
}

/// The operations of the device; a script in tests.
trait Regions: Send + Sync {
    /// Makes a region, as [`Ashmem::create`].
    fn create(&self, bytes: u64) -> io::Result<OwnedFd>;

    /// Returns its identity, as [`ashmem::mapped_inode`], which fixes name and size.
    fn identify(&self, region: BorrowedFd<'_>) -> io::Result<Inode>;

    /// Makes its pages present, as [`ashmem::populate`].
    fn populate(&self, region: BorrowedFd<'_>, bytes: u64) -> io::Result<()>;

    /// Forbids writing permanently, as [`ashmem::make_read_only`].
    fn make_read_only(&self, region: BorrowedFd<'_>) -> io::Result<()>;

    /// Returns whether `fd` is a region, as [`Ashmem::is_region`].
    fn is_region(&self, fd: BorrowedFd<'_>) -> bool;
}

impl Regions for Ashmem {
    fn create(&self, bytes: u64) -> io::Result<OwnedFd> {
        Ashmem::create(self, NAME, bytes)
    }

    fn identify(&self, region: BorrowedFd<'_>) -> io::Result<Inode> {
        ashmem::mapped_inode(region)
    }

    fn populate(&self, region: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
        ashmem::populate(region, bytes)
    }

    fn make_read_only(&self, region: BorrowedFd<'_>) -> io::Result<()> {
        ashmem::make_read_only(region)
    }

    fn is_region(&self, fd: BorrowedFd<'_>) -> bool {
        Ashmem::is_region(self, fd)
    }
}

/// Makes one region for each buffer.
pub struct AshmemSource {
    regions: Arc<dyn Regions>,
}

impl AshmemSource {
    /// Finds the device, and tests with one page that regions can be made and made read-only.
    ///
    /// # Errors
    /// The reason if it does not work.
    pub fn connect(page: PageSize) -> Result<Opened, NoAshmem> {
        let regions = Arc::new(Ashmem::find().map_err(NoAshmem::Device)?);
        Self::with(regions, page)
    }

    fn with(regions: Arc<dyn Regions>, page: PageSize) -> Result<Opened, NoAshmem> {
        prove(regions.as_ref(), page.bytes()).map_err(NoAshmem::Broken)?;
        let of_pages = Capabilities::of_pieces(Backing::Ashmem, page.bytes());
        let capabilities = Capabilities { recycles: false, ..of_pages };
        Ok(Opened::new(Arc::new(Self { regions }), capabilities))
    }
}

fn prove(regions: &dyn Regions, bytes: u64) -> io::Result<()> {
    let region = regions.create(bytes)?;
    regions.identify(region.as_fd())?;
    regions.populate(region.as_fd(), bytes)?;
    regions.make_read_only(region.as_fd())?;
    match regions.populate(region.as_fd(), bytes) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("a region that is read-only can be mapped writable")),
    }
}

impl Source for AshmemSource {
    fn create(&self, bytes: BackedBytes, _: Access, _: &str) -> Result<Box<dyn Memory>, SourceError> {
        let region = self.regions.create(bytes.get())?;
        let inode = self.regions.identify(region.as_fd())?;
        Ok(Box::new(Region {
            fd: region,
            inode,
            is_read_only: AtomicBool::new(false),
            regions: Arc::clone(&self.regions),
        }))
    }

    fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        if self.regions.is_region(fd) { self.regions.identify(fd).ok() } else { None }
    }
}

struct Region {
    fd: OwnedFd,
    inode: Inode,
    /// Permanent once set.
    is_read_only: AtomicBool,
    regions: Arc<dyn Regions>,
}

impl Memory for Region {
    /// Returns a descriptor for the client, once. A region that was made read-only and then not
    /// used serves readers only.
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        match access {
            Access::ReadOnly => {
                self.regions.make_read_only(self.fd.as_fd())?;
                self.is_read_only.store(true, Ordering::Relaxed);
            }
            Access::ReadWrite if self.is_read_only.load(Ordering::Relaxed) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Access::ReadWrite => {}
        }
        self.fd.try_clone()
    }

    fn backing(&self) -> Backing {
        Backing::Ashmem
    }

    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        Err(io::Error::new(io::ErrorKind::Unsupported, ReleaseMechanism::Token.describe()))
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        Err(Unfit::Kernels)
    }

    /// Does nothing: the kernel charges the process that touches a page first. That must be a
    /// client: otherwise clients that drop their token and keep the region could fill the service's
    /// own cgroup without a limit.
    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
