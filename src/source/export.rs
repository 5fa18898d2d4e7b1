// SPDX-License-Identifier: Apache-2.0
//! dma-bufs over pages of the service's own: what makes them, and what can be asked of one. The seam that a test puts
//! its double behind, since most machines have no `/dev/udmabuf`.
//!
//! # A dma-buf is used again
//! Making one costs the kernel time for each page. So it is kept together with its pages: once its count proves that
//! nobody else has it, no descriptor, mapping, message or device refers to it any more, nor can any come about, since
//! a dma-buf cannot be opened by path. The pages are cleaned, and the same dma-buf goes to the next client of the same
//! trust domain. What survives in it is nothing that client may not see: its name is set anew, its fences have all
//! signalled ([`Export::is_settled`]), and its inode number stays, under which the books know its new owner. Flags of the
//! description and whoever polls it through an epoll of theirs stay, too: what they tell is within the trust domain.

use super::dma_buf::{DmaBuf, prove};
use super::{File, FileSource, Memory, is_exhaustion};
use crate::sys::dma_buf::{CpuAccess, Phase, is_settled, set_name, sync};
use crate::sys::fd::Inode;
use crate::sys::references::ReferenceCounts;
use crate::sys::udmabuf::{DEVICE, Limits, Udmabuf, limits, raise_limits};
use crate::units::{Access, Backing, RequestedBytes};
use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Name of dma-bufs that no client has, in the kernel's lists.
pub(super) const POOLED_NAME: &CStr = c"anion pool";

/// Makes dma-bufs of ranges of files.
pub trait Exporter: Send + Sync {
    /// How much it takes.
    fn limits(&self) -> Limits;

    /// A dma-buf of `ranges` of `file`, one after the other. It keeps the pages until it is gone, even if the file gives
    /// them back.
    ///
    /// # Errors
    /// As [`Udmabuf::create`].
    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>>;
}

/// A dma-buf that the service made. Dropping it gives the service's hold up.
pub trait Export: Send + Sync {
    /// A descriptor for a client, for reading and writing.
    ///
    /// # Errors
    /// When descriptors run out.
    fn open(&self) -> io::Result<OwnedFd>;

    /// Its identity, the same through every descriptor.
    fn inode(&self) -> Inode;

    /// Whether nobody but the service has it.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn is_idle(&self) -> io::Result<bool>;

    /// Whether every device is done with it.
    fn is_settled(&self) -> bool;

    /// Names it in the kernel's lists, for people.
    fn set_name(&self, name: &CStr);

    /// The pages were written to through a mapping of the file: lets devices see it.
    fn written(&self);
}

/// Why dma-bufs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// There is no device, or it is closed to the service.
    #[error("{DEVICE} cannot be opened: {0}")]
    Device(io::Error),
    /// It makes none of these files, or releases go unnoticed.
    #[error("{DEVICE} does not work: {0}")]
    Broken(io::Error),
    /// It takes no files of huge pages.
    #[error("{DEVICE} of this kernel takes no huge pages (Linux 6.12 does): {0}")]
    NoHugePages(io::Error),
}

/// The device, proven to work.
#[derive(Debug)]
pub struct UdmabufDevice {
    device: Udmabuf,
    limits: Limits,
    counts: Arc<ReferenceCounts>,
}

impl UdmabufDevice {
    /// Opens the device, lets it take buffers of up to `largest` bytes, also in the smallest pieces, where that is permitted,
    /// and proves with one buffer that it works with `files` and that releases are noticed.
    ///
    /// # Errors
    /// Why it does not.
    pub fn connect(
        files: &dyn FileSource,
        largest: u64,
        counts: &Arc<ReferenceCounts>,
    ) -> Result<Self, NotConnected> {
        let device = Udmabuf::open().map_err(NotConnected::Device)?;
        let wanted = Limits { ranges: largest / files.granule(), bytes: largest };
        if let Err(error) = raise_limits(wanted) {
            let Limits { ranges, bytes } = limits();
            log::info!("udmabuf keeps its limits of {bytes} bytes and {ranges} ranges a buffer: {error}");
        }
        let bytes = RequestedBytes(1).round_up(files.granule()).map_err(io::Error::other);
        let make = || {
            let bytes = bytes?;
            let file: Box<dyn File> = files.create_file(bytes)?;
            let whole = 0..bytes.get();
            device.create(file.fd(), std::slice::from_ref(&whole))
        };
        match prove(counts, make) {
            // Nothing is left at the moment to try with; requests fail until there is.
            Err(error) if !is_exhaustion(&error) => Err(match files.backing() {
                Backing::Hugetlb => NotConnected::NoHugePages(error),
                _ => NotConnected::Broken(error),
            }),
            _ => Ok(Self { device, limits: limits(), counts: Arc::clone(counts) }),
        }
    }
}

impl Exporter for UdmabufDevice {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>> {
        let fd = self.device.create(file, ranges)?;
        Ok(Box::new(DmaBuf::new(fd, Access::ReadWrite, Backing::Udmabuf, &self.counts)?))
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
        // Writes back what lies in the caches, for the device mapping that a client's own bracket has left behind: later
        // ones are made clean by being made. Without such a mapping the driver answers EINVAL, and there is nothing to
        // do. No access is begun, since that would make the mapping.
        let _ = sync(self.fd(), CpuAccess::ReadWrite, Phase::End);
    }
}
