// SPDX-License-Identifier: Apache-2.0
//! Real dma-bufs over memory of the service's own: every buffer is a file that only the service has, and the dma-buf of
//! all its pages. When the client lets go, the pages are cleaned through the file, and file and dma-buf are kept and
//! handed out again together, as any shared memory is (`export.rs`).

use super::export::{Export, Exporter, POOLED_NAME};
use super::{File, FileSource, Memory, Source, Unfit};
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, Label};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

/// Makes files, and dma-bufs of them.
pub struct UdmabufSource {
    files: Arc<dyn FileSource>,
    exporter: Arc<dyn Exporter>,
}

impl UdmabufSource {
    /// dma-bufs that `exporter`, which takes them, makes of `files`.
    pub fn new(files: Arc<dyn FileSource>, exporter: Arc<dyn Exporter>) -> Self {
        Self { files, exporter }
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
        self.exporter.limits().bytes
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
            dma_buf: OnceLock::new(),
            file: self.files.create_file(bytes)?,
            bytes: bytes.get(),
            exporter: Arc::clone(&self.exporter),
        }))
    }
}

/// A file of the service's, and the dma-buf of its pages.
struct Exported {
    /// Made when the pages are present or a client gets it, whichever comes first, and kept. Dropped before the file.
    dma_buf: OnceLock<Box<dyn Export>>,
    file: Box<dyn File>,
    bytes: u64,
    exporter: Arc<dyn Exporter>,
}

impl Exported {
    fn dma_buf(&self) -> io::Result<&dyn Export> {
        if let Some(dma_buf) = self.dma_buf.get() {
            return Ok(dma_buf.as_ref());
        }
        let whole = 0..self.bytes;
        let made = self.exporter.export(self.file.fd(), std::slice::from_ref(&whole))?;
        // Of two that are made at once, one goes again.
        Ok(self.dma_buf.get_or_init(|| made).as_ref())
    }
}

impl Memory for Exported {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        match access {
            Access::ReadWrite => self.dma_buf()?.open(),
            Access::ReadOnly => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    /// That of the dma-buf, once there is one.
    fn inode(&self) -> Inode {
        self.dma_buf.get().map_or_else(|| self.file.inode(), |dma_buf| dma_buf.inode())
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.dma_buf.get().map_or(Ok(true), |dma_buf| dma_buf.is_idle())
    }

    fn watch(&self, _: &CloseWatcher) -> io::Result<Option<Watch>> {
        Ok(None)
    }

    fn handed_out(&self, label: &Label) {
        if let (Some(dma_buf), Ok(name)) = (self.dma_buf.get(), CString::new(label.as_str())) {
            dma_buf.set_name(&name);
        }
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        if self.dma_buf.get().is_some_and(|dma_buf| !dma_buf.is_settled()) {
            return Err(Unfit::FencesPending);
        }
        self.file.worth_keeping()
    }

    /// The dma-buf is made here as well, so that handing it out asks nothing more of the kernel.
    fn populate(&self) -> io::Result<()> {
        self.file.populate()?;
        self.dma_buf()?.set_name(POOLED_NAME);
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        if let Some(dma_buf) = self.dma_buf.get() {
            dma_buf.set_name(POOLED_NAME);
        }
        self.file.wipe()
    }

    fn forget_mapping(&self) {
        self.file.forget_mapping();
    }

    fn cleaned(&self) {
        if let Some(dma_buf) = self.dma_buf.get() {
            dma_buf.written();
        }
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
        let source = UdmabufSource::new(files, Arc::clone(&exporter) as Arc<dyn Exporter>);
        let bytes = RequestedBytes(i64::try_from(BYTES).expect("small")).round_up(1).expect("valid");
        (source.create(bytes).expect("memfd"), script, exporter)
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
    fn what_is_made_ahead_has_its_dma_buf() {
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
        assert!(memory.is_idle().expect("nobody has it"));
        assert!(memory.open(Access::ReadWrite).is_ok());
    }
}
