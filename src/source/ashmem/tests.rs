// SPDX-License-Identifier: Apache-2.0
//! The order of operations on a region, with memfds as regions.

use super::*;
use crate::sys::memfd::MemfdFactory;
use crate::units::RequestedBytes;
use std::sync::Mutex;

/// A device that records the operations on it.
#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<&'static str>>,
    /// The step that fails, and its error.
    fault: Option<(&'static str, i32)>,
    /// Whether access masks have no effect.
    ignores_masks: bool,
    masked: AtomicBool,
}

impl Recorder {
    fn call(&self, step: &'static str) -> io::Result<()> {
        self.calls.lock().expect("not poisoned").push(step);
        match self.fault {
            Some((failing, errno)) if failing == step => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().expect("not poisoned"))
    }
}

impl Regions for Recorder {
    fn create(&self, bytes: u64) -> io::Result<OwnedFd> {
        self.call("create")?;
        self.masked.store(false, Ordering::Relaxed);
        MemfdFactory::probe()?.create("test", bytes)
    }

    fn identify(&self, region: BorrowedFd<'_>) -> io::Result<Inode> {
        self.call("identify")?;
        ashmem::mapped_inode(region)
    }

    fn populate(&self, region: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
        self.call("populate")?;
        if self.masked.load(Ordering::Relaxed) && !self.ignores_masks {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        ashmem::populate(region, bytes)
    }

    fn make_read_only(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        self.call("make_read_only")?;
        self.masked.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn is_region(&self, fd: BorrowedFd<'_>) -> bool {
        crate::sys::memfd::is_sealed(fd)
    }
}

/// Opens a source whose regions are memfds.
pub(crate) fn stand_in() -> Opened {
    connected().0
}

fn page() -> PageSize {
    crate::sys::memory::page_size().expect("page size")
}

fn connected() -> (Opened, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let opened = AshmemSource::with(Arc::clone(&recorder) as Arc<dyn Regions>, page());
    let opened = opened.map_err(|error| error.to_string()).expect("it works");
    assert_eq!(recorder.calls(), ["create", "identify", "populate", "make_read_only", "populate"]);
    (opened, recorder)
}

fn region(source: &dyn Source) -> Box<dyn Memory> {
    let bytes = RequestedBytes(1).round_up(page().bytes()).expect("valid");
    source.create(bytes, Access::ReadWrite, "test").expect("a region")
}

#[test]
fn name_and_size_are_fixed_before_anyone_has_the_region() {
    let (opened, recorder) = connected();
    let memory = region(opened.source.as_ref());
    assert_eq!(recorder.calls(), ["create", "identify"]);
    memory.open(Access::ReadWrite).expect("a descriptor");
    assert_eq!(recorder.calls(), [""; 0]);
}

#[test]
fn a_region_to_be_read_is_made_so_before_its_descriptor_exists() {
    let (opened, recorder) = connected();
    let memory = region(opened.source.as_ref());
    memory.populate().expect("the pages are for the client that is charged for them");
    memory.open(Access::ReadOnly).expect("a descriptor");
    assert_eq!(recorder.calls(), ["create", "identify", "make_read_only"]);
    let refused = memory.open(Access::ReadWrite).expect_err("for good");
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);

    let broken = AshmemSource {
        regions: Arc::new(Recorder { fault: Some(("make_read_only", libc::EINVAL)), ..Recorder::default() }),
    };
    let refused = region(&broken).open(Access::ReadOnly).expect_err("it would be writable");
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_device_that_does_not_what_it_should_is_not_used() {
    for fault in ["create", "identify", "populate", "make_read_only"] {
        let recorder = Recorder { fault: Some((fault, libc::EINVAL)), ..Recorder::default() };
        let error = AshmemSource::with(Arc::new(recorder), page()).err().expect("broken");
        assert!(error.to_string().starts_with("/dev/ashmem does not work: Invalid argument"), "{error}");
    }
    let recorder = Recorder { ignores_masks: true, ..Recorder::default() };
    let error = AshmemSource::with(Arc::new(recorder), page()).err().expect("no protection");
    assert!(error.to_string().ends_with("read-only can be mapped writable"), "{error}");
}

#[test]
fn a_region_tells_nothing_of_its_holders_and_is_never_kept() {
    let (opened, _) = connected();
    let memory = region(opened.source.as_ref());
    assert_eq!(memory.is_idle().expect_err("not known").kind(), io::ErrorKind::Unsupported);
    assert_eq!(memory.worth_keeping(), Err(Unfit::Kernels));
    assert!(memory.scrub().is_err() && !opened.capabilities.recycles);
    assert_eq!(ReleaseMechanism::of(memory.backing()), ReleaseMechanism::Token);
}

#[test]
fn a_region_is_identified_through_any_descriptor() {
    let source = connected().0.source;
    let (memory, other) = (region(source.as_ref()), region(source.as_ref()));
    let client = memory.open(Access::ReadWrite).expect("a descriptor");
    assert_eq!(source.identify(client.as_fd()), Some(memory.inode()));
    assert_ne!(source.identify(client.as_fd()), Some(other.inode()));
    let (pipe, _writer) = nix::unistd::pipe().expect("a pipe");
    assert_eq!(source.identify(pipe.as_fd()), None);
}
