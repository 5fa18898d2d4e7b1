// SPDX-License-Identifier: Apache-2.0
//! Real dma-bufs over memory of the service's own: every buffer is a file that only the service has, and a dma-buf made
//! of its pages for each client that gets it. The pages stay when the client lets go, so that they are cleaned, kept
//! and handed out again as any shared memory is; only the dma-buf is new.

use super::dma_buf::{DmaBuf, prove};
use super::{File, FileSource, Memory, Source, Unfit, is_exhaustion};
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::udmabuf::{DEVICE, Limits, Udmabuf, limits, raise_limit};
use crate::units::{Access, BackedBytes, Backing, Label, RequestedBytes};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Why dma-bufs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// There is no device, or it is closed to the service.
    #[error("{DEVICE} cannot be opened: {0}")]
    Device(io::Error),
    /// It makes none of these files, or releases go unnoticed.
    #[error("{DEVICE} does not work: {0}")]
    Broken(io::Error),
}

/// Makes dma-bufs of files.
pub struct UdmabufSource {
    files: Arc<dyn FileSource>,
    device: Arc<Udmabuf>,
    limits: Limits,
}

impl UdmabufSource {
    /// Opens the device, lets it take buffers of up to `largest` bytes where that is permitted, and proves with one
    /// buffer that it works with `files` and that releases are noticed.
    ///
    /// # Errors
    /// Why it does not.
    pub fn connect(files: Arc<dyn FileSource>, largest: u64) -> Result<Self, NotConnected> {
        let device = Udmabuf::open().map_err(NotConnected::Device)?;
        if limits().bytes < largest
            && let Err(error) = raise_limit(largest)
        {
            log::info!("udmabuf keeps its limit of {} bytes a buffer: {error}", limits().bytes);
        }
        let bytes = RequestedBytes(1).round_up(files.granule()).map_err(io::Error::other);
        let make = || {
            let file = files.create_file(bytes?)?;
            export(&device, file.as_ref(), files.granule())
        };
        match prove(make) {
            // Nothing is left at the moment to try with; requests fail until there is.
            Err(error) if !is_exhaustion(&error) => Err(NotConnected::Broken(error)),
            _ => Ok(Self { files, device: Arc::new(device), limits: limits() }),
        }
    }
}

impl Source for UdmabufSource {
    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    fn max_alignment(&self) -> u64 {
        self.files.max_alignment()
    }

    fn granule(&self) -> u64 {
        self.files.granule()
    }

    fn contiguous_bytes(&self) -> u64 {
        self.files.contiguous_bytes()
    }

    fn max_bytes(&self) -> u64 {
        self.limits.bytes
    }

    /// The driver makes descriptors for reading and writing, no others.
    fn gives(&self, access: Access) -> bool {
        access == Access::ReadWrite
    }

    /// The file and the dma-buf.
    fn descriptors(&self) -> u64 {
        2
    }

    fn is_machine_memory(&self) -> bool {
        self.files.is_machine_memory()
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        Ok(Box::new(Exported {
            file: self.files.create_file(bytes)?,
            bytes: bytes.get(),
            device: Arc::clone(&self.device),
            current: Mutex::new(None),
        }))
    }
}

/// A dma-buf of all of a file.
fn export(device: &Udmabuf, file: &dyn File, bytes: u64) -> io::Result<OwnedFd> {
    let whole = 0..bytes;
    device.create(file.fd(), std::slice::from_ref(&whole))
}

/// A file of the service's, and the dma-buf of its pages that a client has.
struct Exported {
    file: Box<dyn File>,
    bytes: u64,
    device: Arc<Udmabuf>,
    current: Mutex<Option<Arc<DmaBuf>>>,
}

impl Exported {
    /// The lock is gone when it is used.
    fn current(&self) -> Option<Arc<DmaBuf>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, dma_buf: Option<Arc<DmaBuf>>) {
        let last =
            std::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), dma_buf);
        drop(last);
    }
}

impl Memory for Exported {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        let fd = export(&self.device, self.file.as_ref(), self.bytes)?;
        let dma_buf = DmaBuf::new(fd, Access::ReadWrite, Backing::Udmabuf)?;
        let client = dma_buf.open(access)?;
        self.replace(Some(Arc::new(dma_buf)));
        Ok(client)
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    /// That of the dma-buf, once there is one.
    fn inode(&self) -> Inode {
        self.current().map_or_else(|| self.file.inode(), |dma_buf| dma_buf.inode())
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.current().map_or(Ok(true), |dma_buf| dma_buf.is_idle())
    }

    fn watch(&self, _: &CloseWatcher) -> io::Result<Option<Watch>> {
        Ok(None)
    }

    fn handed_out(&self, label: &Label) {
        if let Some(dma_buf) = self.current() {
            dma_buf.handed_out(label);
        }
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        self.file.worth_keeping()
    }

    fn populate(&self) -> io::Result<()> {
        self.file.populate()
    }

    fn scrub(&self) -> io::Result<()> {
        // The one that the last client had is of no more use.
        self.replace(None);
        self.file.scrub()
    }
}
