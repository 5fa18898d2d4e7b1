// SPDX-License-Identifier: Apache-2.0
//! A source that fails when told to: a real memfd source behind a countdown. For forcing error paths in tests.

use super::memfd::MemfdSource;
use super::{Memory, Source};
use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes, Backing};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Counts calls into the source and its memory, and fails one of them.
#[derive(Debug, Default)]
pub struct Script(Mutex<ScriptState>);

#[derive(Debug, Default)]
struct ScriptState {
    /// Calls left before the failure; `None` for no failure.
    countdown: Option<usize>,
    /// What the failing call answers.
    errno: i32,
    calls: usize,
}

impl Script {
    /// Makes the call after `calls` more fail with `errno`, once.
    pub fn fail_after(&self, calls: usize, errno: i32) {
        let mut state = self.0.lock().expect("not poisoned");
        (state.countdown, state.errno, state.calls) = (Some(calls), errno, 0);
    }

    /// Calls since [`Script::fail_after`].
    pub fn calls(&self) -> usize {
        self.0.lock().expect("not poisoned").calls
    }

    /// Whether the failure is still to come.
    pub fn is_pending(&self) -> bool {
        self.0.lock().expect("not poisoned").countdown.is_some()
    }

    fn call(&self) -> io::Result<()> {
        let mut state = self.0.lock().expect("not poisoned");
        state.calls += 1;
        match state.countdown {
            Some(0) => {
                state.countdown = None;
                Err(io::Error::from_raw_os_error(state.errno))
            }
            Some(left) => {
                state.countdown = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
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
        self.script.call()?;
        let inner = self.inner.create(bytes)?;
        Ok(Box::new(ScriptedMemory { inner, script: Arc::clone(&self.script) }))
    }
}

struct ScriptedMemory {
    inner: Box<dyn Memory>,
    script: Arc<Script>,
}

impl Memory for ScriptedMemory {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        self.script.call()?;
        self.inner.open(access)
    }

    fn inode(&self) -> Inode {
        self.inner.inode()
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.inner.is_idle()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd()
    }
}
