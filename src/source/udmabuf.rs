// SPDX-License-Identifier: Apache-2.0
//! dma-bufs over memory of the service: every buffer is a file that only the service holds, and the
//! dma-buf of all its pages. After a release the pages are cleaned through the file. File and
//! dma-buf are kept and reused together, like other shared memory (`export.rs`).

use super::dma_buf::{DmaBuf, prove};
use super::export::{Export, Exporter, LateExport, POOLED_NAME, require_writable};
use super::release::PROOF;
use super::{Capabilities, File, FileSource, Memory, Opened, Source, SourceError, Unfit, is_exhaustion};
use crate::sys::fd::Inode;
use crate::sys::references::ReferenceCounts;
use crate::sys::udmabuf::{DEVICE, Limits, Udmabuf, limits, raise_limits};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, Label, RequestedBytes};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Reason why dma-bufs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NoUdmabuf {
    /// There is no device, or it is not permitted to the service.
    #[error("{DEVICE} cannot be opened: {0}")]
    Device(io::Error),
    /// It cannot make dma-bufs of these files, or releases are not detected.
    #[error("{DEVICE} does not work: {0}")]
    Broken(io::Error),
    /// It accepts no files of huge pages.
    #[error("{DEVICE} of this kernel takes no huge pages (Linux 6.12 does): {0}")]
    NoHugePages(io::Error),
}

/// The device after a successful test.
#[derive(Debug)]
pub struct UdmabufDevice {
    device: Udmabuf,
    limits: Limits,
    counts: Arc<ReferenceCounts>,
}

impl UdmabufDevice {
    /// Opens the device and, if permitted, raises its limits to buffers of `largest` bytes, also in
    /// the smallest pieces. Tests with one buffer that it works with `files` and that releases are
    /// detected.
    ///
    /// # Errors
    /// The reason why it does not work.
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
            log::info!("udmabuf's limits stay at {bytes} bytes and {ranges} ranges for a buffer: {error}");
        }
        let bytes = RequestedBytes(1).round_up(granularity).map_err(io::Error::other);
        let make = || {
            let bytes = bytes?;
            let file = files.create_file(bytes, PROOF)?;
            let whole = 0..bytes.get();
            device.create(file.fd(), std::slice::from_ref(&whole))
        };
        match prove(counts, make) {
            // No memory for the test at the moment; requests fail until there is some.
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

/// Makes files, and dma-bufs of them.
pub struct UdmabufSource {
    files: Arc<dyn FileSource>,
    exporter: Arc<dyn Exporter>,
}

impl UdmabufSource {
    /// Opens a source from a maker of files and a maker of dma-bufs.
    pub fn open(files: Arc<dyn FileSource>, exporter: Arc<dyn Exporter>) -> Opened {
        let of_files = files.capabilities().exported(exporter.limits().bytes);
        // One for the file, one for the dma-buf.
        let capabilities = Capabilities { descriptors: 2, ..of_files };
        Opened::new(Arc::new(Self { files, exporter }), capabilities)
    }
}

impl Source for UdmabufSource {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(Box::new(Exported {
            dma_buf: LateExport::new(&self.exporter, None),
            file: self.files.create_file(bytes, name)?,
            bytes: bytes.get(),
        }))
    }
}

/// A file of the service and the dma-buf of its pages. Fields are dropped in this order: the
/// dma-buf is closed first.
struct Exported {
    dma_buf: LateExport,
    file: Box<dyn File>,
    bytes: u64,
}

impl Exported {
    fn dma_buf(&self) -> io::Result<&dyn Export> {
        self.dma_buf.make(self.file.fd(), || std::iter::once(0..self.bytes).collect())
    }
}

impl Memory for Exported {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        require_writable(access)?;
        self.dma_buf()?.open()
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    /// Returns the identity of the dma-buf, once it is made.
    fn inode(&self) -> Inode {
        self.dma_buf.get().map_or_else(|| self.file.inode(), Export::inode)
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.dma_buf.is_idle()
    }

    fn handed_out(&self, label: &Label) {
        self.dma_buf.set_label(label);
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        if !self.dma_buf.is_settled() {
            return Err(Unfit::FencesPending);
        }
        self.file.worth_keeping()
    }

    /// Makes the dma-buf as well, so that serving a client needs no further work of the kernel.
    fn populate(&self) -> io::Result<()> {
        self.file.populate()?;
        self.dma_buf()?.set_name(POOLED_NAME);
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        self.dma_buf.set_pooled();
        self.file.wipe()
    }

    fn forget_mapping(&self) {
        self.file.forget_mapping();
    }

    fn cleaned(&self) {
        self.dma_buf.written();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memfd::MemfdSource;
    use crate::source::scripted::{Script, ScriptedExporter, ScriptedSource};
    use crate::sys::map::SharedMap;
    use crate::units::RequestedBytes;

    const BYTES: u64 = 1 << 20;

    fn memory() -> (Box<dyn Memory>, Arc<Script>, Arc<ScriptedExporter>) {
        let script = Arc::new(Script::default());
        let page = crate::sys::memory::page_size().expect("page size");
        let inner = MemfdSource::new(page).expect("memfd");
        let exporter = Arc::new(ScriptedExporter::new(Arc::clone(&script)));
        let files = Arc::new(ScriptedSource { inner, script: Arc::clone(&script) });
        let opened = UdmabufSource::open(files, Arc::clone(&exporter) as Arc<dyn Exporter>);
        let bytes = RequestedBytes(i64::try_from(BYTES).expect("small")).round_up(1).expect("valid");
        (opened.source.create(bytes, Access::ReadWrite, "test").expect("memfd"), script, exporter)
    }

    fn map(fd: &OwnedFd) -> SharedMap {
        SharedMap::new(fd, usize::try_from(BYTES).expect("small"), Access::ReadWrite).expect("mapped")
    }

    #[test]
    fn one_dma_buf_serves_client_after_client() {
        let (memory, _, exporter) = memory();
        let mut inodes = Vec::new();
        for _ in 0..3 {
            let client = memory.open(Access::ReadWrite).expect("opened");
            inodes.push(memory.inode());
            let mapping = map(&client);
            assert!(mapping.is_zero());
            mapping.fill(7).expect("writable");
            drop(client);
            assert!(!memory.is_idle().expect("told"), "mapped");
            drop(mapping);
            assert!(memory.is_idle().expect("told"));
            assert_eq!(memory.worth_keeping(), Ok(()));
            memory.scrub().expect("scrubbed");
        }
        assert_eq!((exporter.exports(), inodes[1], inodes[2]), (1, inodes[0], inodes[0]));
    }

    #[test]
    fn memory_made_ahead_already_has_its_dma_buf() {
        let (memory, script, exporter) = memory();
        memory.populate().expect("made");
        assert_eq!(exporter.exports(), 1);
        script.fail(0..usize::MAX, libc::EIO);
        assert!(memory.open(Access::ReadWrite).is_ok(), "the device is not asked");
        let refused = memory.open(Access::ReadOnly).expect_err("the driver makes no such");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_dma_buf_that_a_device_is_not_done_with_is_not_kept() {
        let (memory, _, exporter) = memory();
        let client = memory.open(Access::ReadWrite).expect("opened");
        map(&client).fill(1).expect("writable");
        drop(client);
        exporter.set_settled(false);
        assert_eq!(memory.worth_keeping(), Err(Unfit::FencesPending));
        exporter.set_settled(true);
        assert_eq!(memory.worth_keeping(), Ok(()));
    }

    #[test]
    fn a_refusal_by_the_device_leaves_memory_that_serves_later() {
        let (memory, script, _) = memory();
        script.fail(0..1, libc::ENOMEM);
        let refused = memory.open(Access::ReadWrite).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
        assert!(memory.is_idle().expect("no client has it"));
        assert!(memory.open(Access::ReadWrite).is_ok());
    }
}
