// SPDX-License-Identifier: Apache-2.0
//! A source that fails on command: a real memfd source behind a countdown. Tests use it to cause
//! errors.

use super::arena::{KernelPages, Pages};
use super::carveout::Lot;
use super::export::{Export, Exporter};
use super::memfd::MemfdSource;
use super::{Capabilities, File, FileSource, Memory, Source, SourceError, Unfit};
use crate::sys::fd::{DescriptorDirectory, Inode, inode};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::udmabuf::Limits;
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Counts calls into the source and its memory, and makes the chosen ones fail.
#[derive(Debug, Default)]
pub struct Script {
    plan: Mutex<Plan>,
    files: OnceLock<Files>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: usize,
    /// Numbers of the calls that fail, from 0.
    failing: Range<usize>,
    /// The error of failed calls.
    errno: i32,
}

impl Script {
    /// Makes the calls in `failing`, counted from now on, fail with `errno`.
    pub fn fail(&self, failing: Range<usize>, errno: i32) {
        *self.plan.lock().expect("not poisoned") = Plan { calls: 0, failing, errno };
    }

    /// Returns the number of calls since [`Script::fail`], or since the start.
    pub fn calls(&self) -> usize {
        self.plan.lock().expect("not poisoned").calls
    }

    /// Returns how many of the source's files exist: with an open descriptor or a mapping in any
    /// process. It counts files made since its first call. The process's descriptors do not show
    /// this, since other tests have descriptors, too.
    pub fn files(&self) -> usize {
        self.files.get_or_init(Files::default).left()
    }

    fn call(&self) -> io::Result<()> {
        let mut plan = self.plan.lock().expect("not poisoned");
        plan.calls += 1;
        if plan.failing.contains(&(plan.calls - 1)) {
            return Err(io::Error::from_raw_os_error(plan.errno));
        }
        Ok(())
    }
}

/// Files, and events of their closes.
#[derive(Debug)]
struct Files {
    inotify: Inotify,
    left: AtomicUsize,
}

impl Default for Files {
    fn default() -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("inotify");
        Self { inotify, left: AtomicUsize::new(0) }
    }
}

impl Files {
    fn watch(&self, file: BorrowedFd<'_>) {
        let path = DescriptorDirectory::path(file);
        self.inotify.add_watch(path.as_str(), AddWatchFlags::IN_DELETE_SELF).expect("watches are left");
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        let gone = match self.inotify.read_events() {
            Ok(events) => {
                events.iter().filter(|event| event.mask.contains(AddWatchFlags::IN_DELETE_SELF)).count()
            }
            Err(Errno::EAGAIN) => return self.left.load(Ordering::Relaxed),
            Err(error) => panic!("inotify: {error}"),
        };
        self.left.fetch_sub(gone, Ordering::Relaxed);
        // One read may not return all events.
        self.left()
    }
}

/// The source under [`Script`].
pub struct ScriptedSource {
    /// The real source.
    pub inner: MemfdSource,
    /// The calls that fail.
    pub script: Arc<Script>,
}

impl Source for ScriptedSource {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(self.create_file(bytes, name)?)
    }
}

impl FileSource for ScriptedSource {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>> {
        self.script.call()?;
        let inner = self.inner.create_file(bytes, name)?;
        if let Some(files) = self.script.files.get() {
            files.watch(inner.fd());
        }
        Ok(Box::new(ScriptedMemory { inner, script: Arc::clone(&self.script) }))
    }

    fn open_file(&self, fd: BorrowedFd<'_>, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        let inner = self.inner.open_file(fd, bytes)?;
        Ok(Box::new(ScriptedMemory { inner, script: Arc::clone(&self.script) }))
    }
}

/// The kernel's pages under [`Script`].
pub struct ScriptedPages {
    /// The calls that fail.
    pub script: Arc<Script>,
    /// The bytes that the machine reports as available.
    pub available: u64,
}

impl Pages for ScriptedPages {
    fn available(&self) -> io::Result<u64> {
        Ok(self.available)
    }

    fn allocate(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        self.script.call()?;
        KernelPages.allocate(file, range)
    }

    fn punch(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        self.script.call()?;
        KernelPages.punch(file, range)
    }
}

struct ScriptedMemory {
    inner: Box<dyn File>,
    script: Arc<Script>,
}

impl Memory for ScriptedMemory {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        self.script.call()?;
        self.inner.open(access)
    }

    fn backing(&self) -> Backing {
        self.inner.backing()
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.inner.ranges()
    }

    fn inode(&self) -> Inode {
        self.inner.inode()
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.inner.is_idle()
    }

    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        self.inner.watch(watcher)
    }

    fn close_seals(&self) -> io::Result<()> {
        self.inner.close_seals()
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        self.inner.worth_keeping()
    }

    fn is_new(&self) -> bool {
        self.inner.is_new()
    }

    fn populate(&self) -> io::Result<()> {
        self.script.call()?;
        self.inner.populate()
    }

    fn wipe(&self) -> io::Result<Wipe> {
        self.script.call()?;
        self.inner.wipe()
    }

    fn forget_mapping(&self) {
        self.inner.forget_mapping();
    }

    fn cleaned(&self) {
        self.inner.cleaned();
    }
}

impl File for ScriptedMemory {
    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd()
    }

    fn hold(&mut self, lot: Lot) {
        self.inner.hold(lot);
    }
}

/// Makes "dma-bufs" of shared memory: a client gets the file itself, opened again, with the pages
/// at their offsets. Each has a lock on a byte of its own, which lasts as long as the client's
/// description. The lock shows whether a client holds it.
pub struct ScriptedExporter {
    /// The calls that fail.
    script: Arc<Script>,
    ranges: u64,
    descriptors: Arc<DescriptorDirectory>,
    exports: AtomicUsize,
    /// Shared with every existing "dma-buf".
    alive: Arc<()>,
    settled: Arc<AtomicBool>,
}

impl ScriptedExporter {
    /// Returns an exporter with the limits of real kernels.
    pub fn new(script: Arc<Script>) -> Self {
        Self {
            script,
            ranges: 1024,
            descriptors: Arc::new(DescriptorDirectory::open().expect("/proc")),
            exports: AtomicUsize::new(0),
            alive: Arc::new(()),
            settled: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Limits the ranges of one "dma-buf".
    pub fn with_ranges(self, ranges: u64) -> Self {
        Self { ranges, ..self }
    }

    /// Returns the number that were made.
    pub fn exports(&self) -> usize {
        self.exports.load(Ordering::Relaxed)
    }

    /// Returns the number that the service still holds.
    pub fn alive(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    /// Sets whether devices have finished with all of them.
    pub fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Ordering::Relaxed);
    }
}

/// Numbers the locked bytes.
static NEXT_BYTE: AtomicU64 = AtomicU64::new(0);

impl Exporter for ScriptedExporter {
    fn limits(&self) -> Limits {
        Limits { ranges: self.ranges, bytes: 1 << 30 }
    }

    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>> {
        self.script.call()?;
        if ranges.is_empty() || ranges.len() as u64 > self.ranges {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.exports.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(ScriptedExport {
            file: self.descriptors.reopen(file, Access::ReadWrite)?,
            inode: inode(file)?,
            byte: NEXT_BYTE.fetch_add(1, Ordering::Relaxed),
            descriptors: Arc::clone(&self.descriptors),
            settled: Arc::clone(&self.settled),
            _alive: Arc::clone(&self.alive),
        }))
    }
}

struct ScriptedExport {
    file: OwnedFd,
    inode: Inode,
    byte: u64,
    descriptors: Arc<DescriptorDirectory>,
    settled: Arc<AtomicBool>,
    _alive: Arc<()>,
}

impl ScriptedExport {
    fn lock(&self, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind.try_into().expect("small"),
            l_whence: libc::SEEK_SET.try_into().expect("small"),
            l_start: self.byte.try_into().expect("small"),
            l_len: 1,
            l_pid: 0,
        }
    }
}

impl Export for ScriptedExport {
    fn open(&self) -> io::Result<OwnedFd> {
        let client = self.descriptors.reopen(&self.file, Access::ReadWrite)?;
        fcntl(&client, FcntlArg::F_OFD_SETLK(&self.lock(libc::F_RDLCK)))?;
        Ok(client)
    }

    /// Returns the identity of the file: dma-bufs of one file are not distinguished here.
    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        let mut lock = self.lock(libc::F_WRLCK);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) == libc::F_UNLCK)
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn set_name(&self, _: &CStr) {}

    fn written(&self) {}
}
