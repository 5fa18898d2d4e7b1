// SPDX-License-Identifier: Apache-2.0
//! A source that fails when told to: a real memfd source behind a countdown. For forcing error paths in tests.

use super::carveout::{KernelPages, Pages};
use super::memfd::MemfdSource;
use super::{File, FileSource, Memory, Source, Unfit};
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::units::{Access, BackedBytes, Backing};
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Counts calls into the source and its memory, and fails those it is told to.
#[derive(Debug, Default)]
pub struct Script(Mutex<Plan>);

#[derive(Debug, Default)]
struct Plan {
    calls: usize,
    /// Calls that fail, counted from 0.
    failing: Range<usize>,
    /// What they answer.
    errno: i32,
}

impl Script {
    /// Makes the calls in `failing`, counted from now on, fail with `errno`.
    pub fn fail(&self, failing: Range<usize>, errno: i32) {
        *self.0.lock().expect("not poisoned") = Plan { calls: 0, failing, errno };
    }

    fn call(&self) -> io::Result<()> {
        let mut plan = self.0.lock().expect("not poisoned");
        plan.calls += 1;
        if plan.failing.contains(&(plan.calls - 1)) {
            return Err(io::Error::from_raw_os_error(plan.errno));
        }
        Ok(())
    }
}

/// The source under [`Script`].
pub struct ScriptedSource {
    /// The real one.
    pub inner: MemfdSource,
    /// What fails.
    pub script: Arc<Script>,
}

impl Source for ScriptedSource {
    fn backing(&self) -> Backing {
        self.inner.backing()
    }

    fn max_alignment(&self) -> u64 {
        self.inner.max_alignment()
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        Ok(self.create_file(bytes)?)
    }
}

impl FileSource for ScriptedSource {
    fn create_file(&self, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        self.script.call()?;
        let inner = self.inner.create_file(bytes)?;
        Ok(Box::new(ScriptedMemory { inner, script: Arc::clone(&self.script) }))
    }
}

/// The kernel's pages under [`Script`].
pub struct ScriptedPages {
    /// What fails.
    pub script: Arc<Script>,
    /// What the machine is said to have available.
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

    fn worth_keeping(&self) -> Result<(), Unfit> {
        self.inner.worth_keeping()
    }

    fn populate(&self) -> io::Result<()> {
        self.script.call()?;
        self.inner.populate()
    }

    fn scrub(&self) -> io::Result<()> {
        self.script.call()?;
        self.inner.scrub()
    }
}

impl File for ScriptedMemory {
    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd()
    }
}
