// SPDX-License-Identifier: Apache-2.0
//! dma-bufs over pages of the service's own: what makes them, and what can be asked of one. The
//! seam that a test puts its double behind, since most machines have no `/dev/udmabuf`.
//!
//! # A dma-buf is used again
//! Making one costs the kernel time for each page. So it is kept together with its pages: once its
//! count proves that only the service has it, no descriptor, mapping, message or device refers to
//! it any more, nor can any come about, since a dma-buf cannot be opened by path. The pages are
//! cleaned, and the same dma-buf goes to the next client of the same trust domain. What survives in
//! it is nothing that client may not see: its name is set again, its fences have all signalled
//! ([`Export::is_settled`]), and its inode number stays, under which the books know its new owner.
//! Flags of the description stay, too, and so do epolls that watch it: what they tell is within the
//! trust domain.

use super::dma_buf::{DmaBuf, prove};
use super::{Capabilities, FileSource, Memory, is_exhaustion};
use crate::sys::dma_buf::{CpuAccess, Phase, is_settled, set_name, sync};
use crate::sys::fd::Inode;
use crate::sys::references::ReferenceCounts;
use crate::sys::udmabuf::{DEVICE, Limits, Udmabuf, limits, raise_limits};
use crate::units::{Access, Backing, Label, RequestedBytes};
use std::ffi::{CStr, CString};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// Name of dma-bufs that no client has, in the kernel's lists.
pub(super) const POOLED_NAME: &CStr = c"anion pool";

/// Makes dma-bufs of ranges of files.
pub trait Exporter: Send + Sync {
    /// Returns how much it takes, the same at each call.
    fn limits(&self) -> Limits;

    /// Makes a dma-buf of `ranges` of `file`, one after the other. It keeps the pages until it is
    /// gone, even if the file gives them back.
    ///
    /// # Errors
    /// As [`Udmabuf::create`].
    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>>;
}

/// A dma-buf that the service made. Dropping it gives the service's hold up.
pub trait Export: Send + Sync {
    /// Returns a descriptor for a client, for reading and writing.
    ///
    /// # Errors
    /// When descriptors run out.
    fn open(&self) -> io::Result<OwnedFd>;

    /// Returns its identity, the same through every descriptor.
    fn inode(&self) -> Inode;

    /// Returns whether only the service has it.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn is_idle(&self) -> io::Result<bool>;

    /// Returns whether every device is done with it.
    fn is_settled(&self) -> bool;

    /// Names it in the kernel's lists, for people.
    fn set_name(&self, name: &CStr);

    /// Names it for the client that gets it.
    fn set_label(&self, label: &Label) {
        if let Ok(name) = CString::new(label.as_str()) {
            self.set_name(&name);
        }
    }

    /// Lets devices see what was written to the pages through a mapping of the file.
    fn written(&self);
}

/// The dma-buf of one buffer's pages: made when the pages are to be present or a client gets it,
/// whichever comes first, and kept. It must be dropped before the pages.
pub(super) struct LateExport {
    made: OnceLock<Box<dyn Export>>,
    exporter: Arc<dyn Exporter>,
}

impl LateExport {
    /// Takes what will make the dma-buf, and the dma-buf if it was made already.
    pub(super) fn new(exporter: &Arc<dyn Exporter>, made: Option<Box<dyn Export>>) -> Self {
        let made = made.map_or_else(OnceLock::new, OnceLock::from);
        Self { made, exporter: Arc::clone(exporter) }
    }

    /// Returns it if it was made.
    pub(super) fn get(&self) -> Option<&dyn Export> {
        self.made.get().map(Box::as_ref)
    }

    /// Returns it, made of `ranges` of `file` if it was not before.
    ///
    /// # Errors
    /// As [`Exporter::export`].
    pub(super) fn make(
        &self,
        file: BorrowedFd<'_>,
        ranges: impl FnOnce() -> Vec<Range<u64>>,
    ) -> io::Result<&dyn Export> {
        if let Some(made) = self.get() {
            return Ok(made);
        }
        let made = self.exporter.export(file, &ranges())?;
        // Of two that are made at once, one goes again.
        Ok(self.made.get_or_init(|| made).as_ref())
    }

    /// Returns whether only the service has it, or it was not made.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        self.get().map_or(Ok(true), Export::is_idle)
    }

    /// Returns whether every device is done with it, or it was not made.
    pub(super) fn is_settled(&self) -> bool {
        self.get().is_none_or(Export::is_settled)
    }

    /// Names it, if it was made, as one that no client has.
    pub(super) fn set_pooled(&self) {
        if let Some(made) = self.get() {
            made.set_name(POOLED_NAME);
        }
    }

    /// Names it, if it was made, for the client that gets it.
    pub(super) fn set_label(&self, label: &Label) {
        if let Some(made) = self.get() {
            made.set_label(label);
        }
    }

    /// Lets devices see what was written to the pages.
    pub(super) fn written(&self) {
        if let Some(made) = self.get() {
            made.written();
        }
    }
}

/// Refuses what the driver makes none of: descriptors that only permit reading.
///
/// # Errors
/// `Unsupported` for them.
pub(super) fn require_writable(access: Access) -> io::Result<()> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Why dma-bufs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NoUdmabuf {
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
    /// Opens the device, lets it take buffers of up to `largest` bytes, also in the smallest
    /// pieces, where that is permitted, and proves with one buffer that it works with `files` and
    /// that releases are noticed.
    ///
    /// # Errors
    /// Why it does not.
    pub fn connect(
        files: &dyn FileSource,
        largest: u64,
        counts: &Arc<ReferenceCounts>,
    ) -> Result<Self, NoUdmabuf> {
        let device = Udmabuf::open().map_err(NoUdmabuf::Device)?;
        let Capabilities { granularity, backings, .. } = files.capabilities();
        let wanted = Limits { ranges: largest / granularity, bytes: largest };
        if let Err(error) = raise_limits(wanted) {
            let Limits { ranges, bytes } = limits();
            log::info!("udmabuf keeps its limits of {bytes} bytes and {ranges} ranges a buffer: {error}");
        }
        let bytes = RequestedBytes(1).round_up(granularity).map_err(io::Error::other);
        let make = || {
            let bytes = bytes?;
            let file = files.create_file(bytes)?;
            let whole = 0..bytes.get();
            device.create(file.fd(), std::slice::from_ref(&whole))
        };
        match prove(counts, make) {
            // Nothing is left at the moment to try with; requests fail until there is.
            Err(error) if !is_exhaustion(&error) => Err(if backings.contains(&Backing::Hugetlb) {
                NoUdmabuf::NoHugePages(error)
            } else {
                NoUdmabuf::Broken(error)
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
        // Writes back what lies in the caches, for the device mapping that a client's own bracket
        // has left behind: later ones are made clean by being made. Without such a mapping the
        // driver answers EINVAL, and there is nothing to do. No access is begun, since that would
        // make the mapping.
        let _ = sync(self.fd(), CpuAccess::ReadWrite, Phase::End);
    }
}
