// SPDX-License-Identifier: Apache-2.0
//! dma-bufs over pages of the service: their makers and their operations. Tests replace these
//! traits by doubles, since most machines have no `/dev/udmabuf`.
//!
//! # Reuse of a dma-buf
//! Making a dma-buf costs the kernel time for each page. So the pool keeps it together with its
//! pages. Once its count proves that only the service holds it, no descriptor, mapping, message or
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

/// Name in the kernel's lists of dma-bufs that no client holds.
pub(super) const POOLED_NAME: &CStr = c"anion pool";

/// Makes dma-bufs of ranges of files.
pub trait Exporter: Send + Sync {
    /// Returns its limits, the same at each call.
    fn limits(&self) -> Limits;

    /// Makes a dma-buf of `ranges` of `file`, in this order. It keeps the pages until it is freed,
    /// even if the file returns them.
    ///
    /// # Errors
    /// As [`Udmabuf::create`](crate::sys::udmabuf::Udmabuf::create).
    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>>;
}

/// A dma-buf that the service made. Its drop ends the service's hold.
pub trait Export: Send + Sync {
    /// Returns a descriptor for a client, for reading and writing.
    ///
    /// # Errors
    /// If descriptors run out.
    fn open(&self) -> io::Result<OwnedFd>;

    /// Returns its identity, the same through every descriptor.
    fn inode(&self) -> Inode;

    /// Returns whether only the service holds it.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn is_idle(&self) -> io::Result<bool>;

    /// Returns whether no device uses it any more.
    fn is_settled(&self) -> bool;

    /// Sets its name in the kernel's lists, for display.
    fn set_name(&self, name: &CStr);

    /// Sets its name to the label of the client that gets it.
    fn set_label(&self, label: &Label) {
        if let Ok(name) = CString::new(label.as_str()) {
            self.set_name(&name);
        }
    }

    /// Makes writes to the pages through a mapping of the file visible to devices.
    fn written(&self);
}

/// The dma-buf of one buffer's pages. It is made when the pages must be present or a client gets
/// it, whichever comes first, and kept. It must be dropped before the pages.
pub(super) struct LateExport {
    made: OnceLock<Box<dyn Export>>,
    exporter: Arc<dyn Exporter>,
}

impl LateExport {
    /// Wraps the maker of the dma-buf, and the dma-buf if it is already made.
    pub(super) fn new(exporter: &Arc<dyn Exporter>, made: Option<Box<dyn Export>>) -> Self {
        let made = made.map_or_else(OnceLock::new, OnceLock::from);
        Self { made, exporter: Arc::clone(exporter) }
    }

    /// Returns it if it was made.
    pub(super) fn get(&self) -> Option<&dyn Export> {
        self.made.get().map(Box::as_ref)
    }

    /// Returns the dma-buf. Makes it of `ranges` of `file` if it is not made yet.
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

    /// Returns whether only the service holds it, or it was not made.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        self.get().map_or(Ok(true), Export::is_idle)
    }

    /// Returns whether no device uses it any more, or it was not made.
    pub(super) fn is_settled(&self) -> bool {
        self.get().is_none_or(Export::is_settled)
    }

    /// Sets its name, if it was made, to that of dma-bufs that no client holds.
    pub(super) fn set_pooled(&self) {
        if let Some(made) = self.get() {
            made.set_name(POOLED_NAME);
        }
    }

    /// Sets its name, if it was made, to the label of the client that gets it.
    pub(super) fn set_label(&self, label: &Label) {
        if let Some(made) = self.get() {
            made.set_label(label);
        }
    }

    /// Makes writes to the pages visible to devices.
    pub(super) fn written(&self) {
        if let Some(made) = self.get() {
            made.written();
        }
    }
}

/// Checks that descriptors are to be writable: the driver makes no others.
///
/// # Errors
/// `Unsupported` for read-only access.
pub(super) fn require_writable(access: Access) -> io::Result<()> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => Err(io::ErrorKind::Unsupported.into()),
    }
}
