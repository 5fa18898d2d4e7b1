// SPDX-License-Identifier: Apache-2.0
//! Selects the thread that waits for the next call.
//!
//! One thread has the turn: it receives calls and answers them, without a switch of threads. A
//! second thread, the relief, checks every [`PATIENCE`] whether an answer has been in progress
//! since its last check, and then takes the turn. So a slow answer delays other calls by at most
//! two such intervals, and a quick one costs no system call. While no calls arrive, the relief
//! sleeps.

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The interval between two checks of the relief.
const PATIENCE: Duration = Duration::from_millis(1);
/// Checks without an answer in progress before the relief sleeps.
const LOOKS: u32 = 4;
/// No thread has had the turn yet.
const NEW: u64 = 0;

/// The owner of the turn, shared by all threads.
pub(super) struct Turn {
    /// Changes at the begin and the end of each answer; odd during an answer. The thread that
    /// changes it from odd to even has the turn.
    state: AtomicU64,
    /// Locked by the relief.
    relief: Mutex<()>,
    /// Whether the relief sleeps until an answer begins.
    sleeps: AtomicBool,
    wake: EventFd,
}

impl Turn {
    /// Returns a turn that the first thread which calls `take` gets at once.
    ///
    /// # Errors
    /// As eventfd(2).
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            state: AtomicU64::new(NEW),
            relief: Mutex::default(),
            sleeps: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Waits until an answer of the thread with the turn takes too long, and takes the turn.
    pub(super) fn take(&self) {
        let _relief = self.relief.lock().unwrap_or_else(PoisonError::into_inner);
        if self.change(NEW, 2) {
            return;
        }
        let (mut last, mut looks) = (NEW, 0);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if state != last {
                (last, looks) = (state, 0);
            } else if is_answer(state) {
                if self.end(state) {
                    return;
                }
            } else {
                looks += 1;
            }
            if looks < LOOKS { thread::sleep(PATIENCE) } else { self.sleep() }
        }
    }

    /// Begins an answer of the thread that has the turn. Returns the value for `end`.
    pub(super) fn begin(&self) -> u64 {
        let answer = self.state.fetch_add(1, Ordering::SeqCst) + 1;
        if self.sleeps.swap(false, Ordering::SeqCst)
            && let Err(error) = self.wake.write(1)
        {
            log::debug!("a slow answer delays all calls: {error}");
        }
        answer
    }

    /// Ends an answer; returns whether the calling thread has the turn now.
    pub(super) fn end(&self, answer: u64) -> bool {
        self.change(answer, answer + 1)
    }

    fn change(&self, from: u64, to: u64) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Sleeps until an answer begins.
    fn sleep(&self) {
        self.sleeps.store(true, Ordering::SeqCst);
        // An answer that began before may not have seen that the relief sleeps.
        if !is_answer(self.state.load(Ordering::SeqCst)) {
            // After an interruption, the relief checks once more.
            let _ = self.wake.read();
        }
    }
}

fn is_answer(state: u64) -> bool {
    !state.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_takes_the_turn_only_while_an_answer_is_late() {
        let turn = Turn::new().expect("an eventfd");
        turn.take();
        let answer = turn.begin();
        assert!(turn.end(answer), "no other thread waits for the turn");
        thread::scope(|scope| {
            let other = scope.spawn(|| turn.take());
            // Waits until the other thread sleeps; it must not miss the next answer.
            while !turn.sleeps.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let answer = turn.begin();
            other.join().expect("no panic");
            assert!(!turn.end(answer), "the turn is the other thread's");
            let answer = turn.begin();
            assert!(turn.end(answer));
        });
    }
}
