// SPDX-License-Identifier: Apache-2.0
//! Returns large memory to the kernel on a thread of its own, so that the detection of releases
//! never waits for it: the kernel takes about a tenth of a millisecond for a MiB.
//!
//! The memory in its queue is charged to no account. To bound it, a call that allocates first waits
//! until little of the memory that its uid released is left in the queue. A call that is about to
//! fail waits for its uid's memory in the queue, or for all of it if memory is scarce.
//!
//! `state` is a leaf lock: a thread that holds it takes no other lock and makes no system call.

use super::Allocator;
use crate::heap::{Leftover, Stored, discard};
use crate::pulse::{Pulse, Watched};
use crate::units::Uid;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Size in bytes from which the thread returns a buffer to the kernel.
const MUCH: u64 = 1 << 20;
/// Most bytes released by one uid that may be in the queue while it allocates more.
const MOST_OF_UID: u64 = 64 << 20;
/// Longest wait for memory in the queue.
const PATIENCE: Duration = Duration::from_secs(2);

/// Memory to drop while no lock is held: displaced from a pool, or not kept.
pub(super) struct ToDrop(pub(super) Leftover, pub(super) Option<Stored>);

impl ToDrop {
    fn drop_all(self) {
        discard(self.0);
        drop(self.1);
    }
}

/// The queue of memory to return.
#[derive(Default)]
pub(super) struct Giver {
    state: Mutex<State>,
    changed: Condvar,
    /// Number of queue entries in `state`, readable without the lock.
    count: AtomicUsize,
    /// The progress of the thread.
    pulse: Arc<Pulse>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Uid, u64, ToDrop)>,
    /// Bytes that are queued or being returned, by the uid that released them.
    of_uids: HashMap<Uid, u64>,
    /// Number of additions to the queue. `given` counts returns, which have the same order.
    come: u64,
    given: u64,
    has_thread: bool,
    is_stopped: bool,
}

impl Giver {
    /// Returns memory to the kernel: at once, or on the thread if that takes long. `uid` released a
    /// buffer of `bytes` bytes, the largest part of it.
    pub(super) fn give(&self, uid: Uid, bytes: u64, memory: ToDrop) {
        let bytes = bytes.max(memory.0.bytes());
        let mut state = self.lock();
        if bytes < MUCH || !state.has_thread {
            drop(state);
            memory.drop_all();
            return;
        }
        state.waiting.push_back((uid, bytes, memory));
        state.come += 1;
        *state.of_uids.entry(uid).or_default() += bytes;
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    /// Returns whether much memory that `uid` released is still in the queue.
    pub(super) fn is_behind(&self, uid: Uid) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.lock().of_uids.get(&uid).is_some_and(|bytes| *bytes > MOST_OF_UID)
    }

    /// Returns whether any memory that `uid` released is still in the queue.
    pub(super) fn is_busy_for(&self, uid: Uid) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.lock().of_uids.contains_key(&uid)
    }

    /// Waits, with a limit, until little of the memory that `uid` released is left in the queue.
    pub(super) fn await_room(&self, uid: Uid) {
        self.wait_while(|state| state.of_uids.get(&uid).is_some_and(|bytes| *bytes > MOST_OF_UID));
    }

    /// Waits, with a limit, until all memory that is in the queue now has been returned.
    pub(super) fn await_all(&self) {
        let all = self.lock().come;
        self.wait_while(|state| state.given < all);
    }

    /// Returns the thread's progress. The watchdog's check wakes the thread for a step.
    pub(super) fn watched(self: &Arc<Self>) -> Watched {
        let giver = Arc::clone(self);
        Watched::woken_by("returns memory to the kernel", &self.pulse, move || giver.changed.notify_all())
    }

    /// Ends the thread. The queue is dropped with this.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    fn wait_while(&self, is_so: impl Fn(&State) -> bool) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, PATIENCE, |state| is_so(state)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for memory; `None` when the thread must end.
    fn next(&self) -> Option<(Uid, u64, ToDrop)> {
        // The first step makes a system call, so no lock is held here.
        self.pulse.step();
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            self.pulse.step();
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn given(&self, uid: Uid, bytes: u64) {
        let mut state = self.lock();
        state.given += 1;
        if let Some(left) = state.of_uids.get_mut(&uid) {
            *left -= bytes;
            if *left == 0 {
                state.of_uids.remove(&uid);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    fn give_all(&self) {
        while let Some((uid, bytes, memory)) = self.next() {
            memory.drop_all();
            self.given(uid, bytes);
        }
    }
}

impl Allocator {
    /// Starts the thread that returns memory. It ends when the allocator is dropped.
    pub(super) fn start_giver(self: &Arc<Self>) -> io::Result<()> {
        let giver = Arc::clone(&self.giver);
        std::thread::Builder::new().name("anion-giver".to_owned()).spawn(move || giver.give_all())?;
        self.giver.lock().has_thread = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: Uid = Uid(1);

    fn nothing() -> ToDrop {
        ToDrop(Leftover::default(), None)
    }

    #[test]
    fn a_uid_waits_for_what_it_released_and_no_other_does() {
        let giver = Giver::default();
        giver.give(UID, MOST_OF_UID + 1, nothing());
        assert!(!giver.is_busy_for(UID), "without a thread it is given back at once");
        giver.lock().has_thread = true;
        giver.give(UID, MUCH - 1, nothing());
        assert!(!giver.is_busy_for(UID), "little is given back at once");
        giver.give(UID, MOST_OF_UID + 1, nothing());
        assert!(giver.is_busy_for(UID) && giver.is_behind(UID) && !giver.is_behind(Uid(2)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| giver.await_all());
            let (uid, bytes, memory) = giver.next().expect("it waits");
            memory.drop_all();
            giver.given(uid, bytes);
            waiting.join().expect("no panic");
        });
        assert!(!giver.is_busy_for(UID) && !giver.is_behind(UID));
        giver.stop();
        assert!(giver.next().is_none());
    }
}
