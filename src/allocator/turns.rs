// SPDX-License-Identifier: Apache-2.0
//! Selects the call that runs next: few calls run at once, and no uid has all of them.
//!
//! A machine has fewer processors than clients have connections. While more calls want to run than
//! may, the next one to run is of the uid that has the fewest running. So a client that makes many
//! calls at once delays its own calls, and a call of another uid waits for the end of at most one.
//! A call that waits for something else ends its turn meanwhile.
//!
//! `calls` is a leaf lock: a thread that holds it takes no other lock and makes no system call.

use crate::units::Uid;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
#[cfg(not(soong))]
use std::time::{Duration, Instant};

/// Calls that run at once, for each processor.
const CALLS_EACH: usize = 2;
/// Pause between two checks whether all calls have ended.
#[cfg(not(soong))]
const STOP_LOOK: Duration = Duration::from_millis(1);

/// The running calls, and the calls that wait for their turn.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    running: usize,
    /// Whether no further call gets a turn.
    stopped: bool,
    /// Only uids that have calls.
    of_uids: HashMap<Uid, OfUid>,
}

/// Calls of one uid.
#[derive(Debug, Default)]
struct OfUid {
    running: usize,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    has_turn: AtomicBool,
}

/// A call's turn. It ends when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    uid: Uid,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::new(CALLS_EACH * processors)
    }
}

impl Turns {
    /// Returns turns for `most` calls at once, at least 2. One uid gets at most all but one of
    /// them.
    fn new(most: usize) -> Self {
        Self { most: most.max(2), calls: Mutex::default() }
    }

    /// Waits for the turn of a call of `uid`.
    pub(super) fn take(&self, uid: Uid) -> Turn<'_> {
        self.wait_for_turn(uid);
        Turn { turns: self, uid }
    }

    /// Ends the turn of a call of `uid`, if it has one, while `wait` waits for something else.
    pub(super) fn without_turn<T>(&self, uid: Uid, wait: impl FnOnce() -> T) -> T {
        let had_turn = self.end(uid);
        let waited = wait();
        if had_turn {
            self.wait_for_turn(uid);
        }
        waited
    }

    /// Gives no further turn: calls without one wait for ever. Waits for the running calls, at most
    /// for `patience`. Returns whether all have ended.
    #[cfg(not(soong))]
    pub(super) fn stop(&self, patience: Duration) -> bool {
        self.lock().stopped = true;
        let start = Instant::now();
        while self.lock().running > 0 {
            if start.elapsed() >= patience {
                return false;
            }
            thread::sleep(STOP_LOOK);
        }
        true
    }

    fn wait_for_turn(&self, uid: Uid) {
        let mut calls = self.lock();
        let (running, stopped) = (calls.running, calls.stopped);
        let own = calls.of_uids.entry(uid).or_default();
        if !stopped && running < self.most && own.running + 1 < self.most && own.waiting.is_empty() {
            own.running += 1;
            calls.running += 1;
            return;
        }
        let waiter = Arc::new(Waiter { thread: thread::current(), has_turn: AtomicBool::new(false) });
        own.waiting.push_back(Arc::clone(&waiter));
        drop(calls);
        while !waiter.has_turn.load(Ordering::Acquire) {
            thread::park();
        }
    }

    /// Ends a turn of `uid` and starts the next call. Returns false if the uid has no turn.
    fn end(&self, uid: Uid) -> bool {
        let mut calls = self.lock();
        let Some(own) = calls.of_uids.get_mut(&uid).filter(|own| own.running > 0) else { return false };
        own.running -= 1;
        if own.running == 0 && own.waiting.is_empty() {
            calls.of_uids.remove(&uid);
        }
        calls.running -= 1;
        let next = calls.give(self.most);
        drop(calls);
        if let Some(waiter) = next {
            waiter.has_turn.store(true, Ordering::Release);
            waiter.thread.unpark();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Removes the call that runs next from the queue: the oldest of the uid with the fewest
    /// running.
    fn give(&mut self, most: usize) -> Option<Arc<Waiter>> {
        if self.stopped {
            return None;
        }
        let waiting = self.of_uids.values_mut().filter(|of_uid| !of_uid.waiting.is_empty());
        let next = waiting.min_by_key(|of_uid| of_uid.running)?;
        if next.running + 1 >= most {
            return None;
        }
        let waiter = next.waiting.pop_front()?;
        next.running += 1;
        self.running += 1;
        Some(waiter)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.end(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const MANY: Uid = Uid(1);
    const FEW: Uid = Uid(2);

    fn waiting(turns: &Turns, uid: Uid) -> usize {
        turns.lock().of_uids.get(&uid).map_or(0, |of_uid| of_uid.waiting.len())
    }

    #[test]
    fn one_uid_never_has_all_turns_and_others_come_before_its_next() {
        let turns = Turns::new(3);
        let (ran, order) = channel();
        thread::scope(|scope| {
            let held = [turns.take(MANY), turns.take(MANY)];
            for _ in 0..3 {
                let ran = ran.clone();
                let turns = &turns;
                scope.spawn(move || {
                    let _turn = turns.take(MANY);
                    ran.send(MANY).expect("received");
                });
            }
            while waiting(&turns, MANY) < 3 {
                thread::yield_now();
            }
            let other = turns.take(FEW);
            let last = ran.clone();
            let turns = &turns;
            scope.spawn(move || {
                let _turn = turns.take(FEW);
                last.send(FEW).expect("received");
            });
            while waiting(turns, FEW) < 1 {
                thread::yield_now();
            }
            drop(held);
            // Two turns became free, one for each call.
            drop(other);
        });
        drop(ran);
        let order: Vec<_> = order.iter().collect();
        assert_eq!(order.iter().filter(|uid| **uid == FEW).count(), 1);
        assert_eq!(order.len(), 4);
        let calls = turns.lock();
        assert!(calls.running == 0 && calls.of_uids.is_empty(), "{calls:?}");
    }

    #[test]
    fn the_next_is_of_the_uid_with_the_fewest_running() {
        let mut calls = Calls::default();
        let waiter = || Arc::new(Waiter { thread: thread::current(), has_turn: AtomicBool::new(false) });
        let enter = |calls: &mut Calls, uid, running| {
            let waiting = VecDeque::from([waiter(), waiter()]);
            calls.of_uids.insert(uid, OfUid { running, waiting });
        };
        enter(&mut calls, MANY, 2);
        enter(&mut calls, FEW, 0);
        let left = |calls: &Calls, uid| calls.of_uids[&uid].waiting.len();
        assert!(calls.give(4).is_some() && calls.give(4).is_some());
        assert_eq!((left(&calls, MANY), left(&calls, FEW)), (2, 0));
        assert!(calls.give(4).is_some());
        assert!(calls.give(4).is_none(), "one turn is left for others");
        assert_eq!(left(&calls, MANY), 1);
    }

    #[test]
    fn a_call_that_waits_for_something_else_lets_others_run() {
        let turns = Turns::new(2);
        let turn = turns.take(MANY);
        turns.without_turn(MANY, || drop(turns.take(MANY)));
        drop(turn);
        assert!(turns.lock().of_uids.is_empty());
    }
}
