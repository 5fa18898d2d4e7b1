// SPDX-License-Identifier: Apache-2.0
//! dma-bufs over pages of the service's own: what makes them, and what can be asked of one. The
//! seam that a test puts its double behind, since most machines have no `/dev/udmabuf`.
//!
//! # A dma-buf is used again
//! Making a dma-buf costs the kernel time for each page. So the pool keeps it together with its
//! pages. Once its count proves that only the service has it, no descriptor, mapping, message or
//! device refers to it, and none can be made, since a dma-buf cannot be opened by path. The pages
//! are cleaned, and the same dma-buf goes to the next client of the same trust domain. It contains
//! nothing that this client may not see: its name is set again, all its fences have signalled
//! ([`Export::is_settled`]), and its inode number stays, for which the registry has the new owner.
//! Flags of the open file description stay, too, and so do epolls that watch it, within the trust
//! domain.

use crate::sys::fd::Inode;
use crate::sys::udmabuf::Limits;
use crate::units::{Access, Label};
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
    /// As [`Udmabuf::create`](crate::sys::udmabuf::Udmabuf::create).
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
        // If two threads make one at once, one of them is dropped.
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
