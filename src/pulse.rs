// SPDX-License-Identifier: Apache-2.0
//! The progress of background threads. The watchdog reads it (`daemon/watchdog.rs`).

use crate::sys::thread::{self, ThreadId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The progress of one thread.
#[derive(Debug, Default)]
pub struct Pulse {
    thread: OnceLock<ThreadId>,
    steps: AtomicU64,
}

impl Pulse {
    /// Counts a step of the calling thread, which must be the same at every call. Takes no lock.
    /// Only the first call makes a system call.
    pub fn step(&self) {
        self.thread.get_or_init(thread::id);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the thread and the number of its steps; `None` before the first step.
    pub fn read(&self) -> Option<(ThreadId, u64)> {
        Some((*self.thread.get()?, self.steps.load(Ordering::Relaxed)))
    }
}

/// A thread that the watchdog checks.
pub struct Watched {
    /// The thread's task, for the log.
    pub task: &'static str,
    /// Its progress.
    pub pulse: Arc<Pulse>,
    /// Returns whether the thread must make a step soon. The call may wake the thread, so that it
    /// makes one.
    pub is_due: Box<dyn Fn() -> bool + Send>,
}

impl Watched {
    /// Returns a thread that makes a step whenever `wake` has woken it.
    pub fn woken_by(task: &'static str, pulse: &Arc<Pulse>, wake: impl Fn() + Send + 'static) -> Self {
        let is_due = move || {
            wake();
            true
        };
        Self { task, pulse: Arc::clone(pulse), is_due: Box::new(is_due) }
    }
}
