// SPDX-License-Identifier: Apache-2.0
//! Buffers that may have been released, and the times of their next checks.
//!
//! # How a release is detected
//! A close event names the buffer; the lease then shows whether another process still holds it. The
//! kernel queues the event *before* it stops counting the closing description (fs/file_table.c,
//! `__fput`), so a lease requested at once can still be refused. Such a *suspect* is checked again,
//! soon at first, then at growing intervals. If it is really held (through another description),
//! the last close of that description causes a new event.
//!
//! Buffers that could not be watched, and all buffers after the event queue overflowed, are checked
//! by leases alone.
//!
//! # Lock rules
//! `pending` is a leaf: a thread that holds it takes no other lock and makes no system call.

mod calls;

use super::throttle::Throttle;
use crate::pulse::{Pulse, Watched};
use crate::sys::inotify::CloseWatcher;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::units::{BufferId, Uid};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Pause before the first check of a suspect: 1 ms. It doubles each time up to a second; later
/// pauses are [`PATIENT`].
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Number of checks after each of which the pause doubles.
const EAGER_LOOKS: u32 = 10;
/// Pause between later checks.
const PATIENT: Duration = Duration::from_secs(5);
/// Number of checks after which the service considers a suspect held.
const MAX_LOOKS: u32 = EAGER_LOOKS + 12;
/// Pause between checks of buffers that are not watched. It doubles while they do not change, up to
/// [`CALM_PAUSE`].
const UNWATCHED_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between checks of buffers that are not watched.
const CALM_PAUSE: Duration = Duration::from_millis(400);
/// Minimum pause before the next check, as a multiple of the duration of the last one: checks may
/// use a fifth of a processor. The time for returning memory does not count.
const REST: u32 = 4;
/// Longest such pause.
const LONGEST_REST: Duration = PATIENT;
/// Bytes of unwatched buffers that a uid allocates before its calls check all of its buffers. After
/// half of these bytes its calls check the newest and the oldest. Checking one takes some µs.
const LOOK_BYTES: u64 = 8 << 20;
/// Times after an overflow at which every buffer is checked: closes that were in progress need a
/// moment.
const RESCANS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_secs(1)];

/// Buffers that wait for a check.
pub(super) struct Liveness {
    pub(super) watcher: CloseWatcher,
    wake: EventFd,
    pending: Mutex<Pending>,
    /// Whether it was logged that buffers are not watched.
    complained: AtomicBool,
    /// The progress of the reaper.
    pub(super) pulse: Arc<Pulse>,
}

#[derive(Default)]
struct Pending {
    /// The numbers of threads that are reading events and have not yet recorded the named buffers.
    readers: BTreeSet<u64>,
    next_reader: u64,
    suspects: HashMap<Uid, HashMap<BufferId, Suspect>>,
    /// Time from which calls of a uid may check its unreported buffers again, and duration of the
    /// last check.
    next_looks: HashMap<Uid, (Instant, Duration)>,
    unwatched: HashMap<Uid, Unwatched>,
    next_unwatched: Option<Instant>,
    /// Pause after that check.
    unwatched_pause: Duration,
    /// Minimum time until the next check, because the last one took long.
    rest: Duration,
    rescans: Vec<Instant>,
    unanswered: Throttle,
    overflows: Throttle,
    stopped: bool,
}

/// Buffers of one uid whose release the kernel does not report.
#[derive(Default)]
struct Unwatched {
    /// The oldest first.
    ids: BTreeSet<BufferId>,
    /// Bytes allocated since all buffers were checked, less the bytes that were found to be
    /// released.
    allocated: u64,
}

struct Suspect {
    looks: u32,
    next: Instant,
}

/// Buffers that a call must check before it allocates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) ids: Vec<BufferId>,
    /// Whether these are all unwatched buffers of the caller.
    pub(super) is_all: bool,
}

/// Checks that are due now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Buffers to check.
    pub(super) buffers: Vec<BufferId>,
    /// Whether every live buffer must be checked.
    pub(super) everything: bool,
    /// Whether the service is ending.
    pub(super) stopped: bool,
}

impl Liveness {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (watcher, complained) = (CloseWatcher::new(), AtomicBool::new(false));
        Ok(Self { watcher, wake, pending: Mutex::default(), complained, pulse: Arc::default() })
    }

    /// Records that a buffer could not be watched for lack of watches or of a queue. The first call
    /// logs it with the limit. Leases are polled as long as the lack lasts.
    pub(super) fn lacks_watches(&self) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: polling the leases of buffers for releases, every {} to {} ms",
                self.watcher.shortage(),
                UNWATCHED_PAUSE.as_millis(),
                CALM_PAUSE.as_millis()
            );
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full counter is readable already.
        let _ = self.wake.write(1);
    }

    /// Returns the reaper's progress. The watchdog's check makes the reaper check for releases.
    pub(super) fn watched(self: &Arc<Self>) -> Watched {
        let liveness = Arc::clone(self);
        Watched::woken_by("detects releases", &self.pulse, move || liveness.wake())
    }

    /// Records that a buffer named by an event is still held.
    pub(super) fn suspect(&self, id: BufferId, uid: Uid, now: Instant) {
        let suspect = Suspect { looks: 1, next: now + FIRST_LOOK };
        self.pending().suspects.entry(uid).or_default().insert(id, suspect);
        self.wake();
    }

    /// Records new buffers of `bytes` bytes each whose release the kernel will not report.
    pub(super) fn unwatched(&self, uid: Uid, ids: &[BufferId], bytes: u64, now: Instant) {
        if ids.is_empty() {
            return;
        }
        let mut pending = self.pending();
        let unwatched = pending.unwatched.entry(uid).or_default();
        unwatched.ids.extend(ids);
        unwatched.allocated = unwatched.allocated.saturating_add(bytes * ids.len() as u64);
        let is_sooner = pending.look_soon(now);
        drop(pending);
        // The caller does not wake a thread that wakes up in time by itself.
        if is_sooner {
            self.wake();
        }
    }

    /// Returns the unwatched buffers that a call of `uid` must check before it allocates `bytes`
    /// bytes more. Buffers that were most likely released come first: the newest and the oldest in
    /// turn.
    pub(super) fn due_before(&self, uid: Uid, bytes: u64) -> Look {
        let mut pending = self.pending();
        let Some(unwatched) = pending.unwatched.get_mut(&uid) else { return Look::default() };
        let allocated = unwatched.allocated.saturating_add(bytes);
        let all = unwatched.ids.len();
        let count = if allocated > LOOK_BYTES {
            all
        } else if allocated > LOOK_BYTES / 2 {
            2.min(all)
        } else {
            0
        };
        // Up to the middle, where newest and oldest meet.
        let pairs = unwatched.ids.iter().rev().zip(&unwatched.ids);
        let ids = pairs.flat_map(|(newest, oldest)| [*newest, *oldest]).take(count).collect();
        Look { ids, is_all: count == all }
    }

    /// Records that a call of `uid` has made its due checks and found `released` bytes.
    pub(super) fn found(&self, uid: Uid, looked_at_all: bool, released: u64) {
        if let Some(unwatched) = self.pending().unwatched.get_mut(&uid) {
            let left = unwatched.allocated.saturating_sub(released);
            unwatched.allocated = if looked_at_all { 0 } else { left };
        }
    }

    /// Makes the reaper check all unwatched buffers at once, because memory is scarce.
    pub(super) fn look_now(&self, now: Instant) {
        let mut pending = self.pending();
        if pending.unwatched.is_empty() {
            return;
        }
        pending.next_unwatched = Some(now);
        drop(pending);
        self.wake();
    }

    /// Records that the kernel dropped events. Returns the number of suppressed log lines if a line
    /// is due now: clients can make events overflow.
    pub(super) fn overflowed(&self, now: Instant) -> Option<u64> {
        let mut pending = self.pending();
        // Replaces the rescans of an earlier overflow: clients can cause overflows repeatedly.
        let rest = pending.rest;
        pending.rescans = RESCANS.map(|pause| now + pause.max(rest)).to_vec();
        let line = pending.overflows.admit(now);
        drop(pending);
        self.wake();
        line
    }

    /// Records that the kernel did not answer whether a buffer is held. Returns the number of
    /// suppressed log lines if a line is due now: a check that fails for every buffer must not fill
    /// the log.
    pub(super) fn unanswered(&self, now: Instant) -> Option<u64> {
        self.pending().unanswered.admit(now)
    }

    /// Records that a buffer of `uid` was released, and cancels its pending checks.
    pub(super) fn released(&self, id: BufferId, uid: Uid) {
        let mut pending = self.pending();
        pending.acquit(id, uid);
        let Some(unwatched) = pending.unwatched.get_mut(&uid) else { return };
        if !unwatched.ids.remove(&id) {
            return;
        }
        if unwatched.ids.is_empty() {
            pending.unwatched.remove(&uid);
        }
        pending.look_soon(Instant::now());
    }

    pub(super) fn stop(&self) {
        self.pending().stopped = true;
        self.wake();
    }

    /// Blocks until a close is queued, a check is due, or another thread reports a change. Without
    /// a due check it blocks without a limit: an idle service does not wake up.
    pub(super) fn wait(&self) {
        let timeout = self.pending().next_due().map(|due| due.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends too early would cause another one.
        let timeout = timeout.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let ready = [Some(self.wake.as_fd()), self.watcher.ready()].into_iter().flatten();
        let mut fds: Vec<_> = ready.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // After an interrupted wait the thread waits again.
        let _ = poll(&mut fds, timeout);
        if fds[0].any() == Some(true) {
            let _ = self.wake.read();
        }
    }

    /// Records the end of the due checks, which took `took` without returning memory. After long
    /// checks, the next one does not follow at once.
    pub(super) fn looked(&self, took: Duration, ended: Instant) {
        self.pending().looked(took, ended);
    }

    /// Takes the checks that are due at `now`, and plans the next one.
    pub(super) fn due(&self, now: Instant) -> Due {
        self.pending().take_due(now)
    }
}

impl Pending {
    /// Removes a buffer from the suspects.
    fn acquit(&mut self, id: BufferId, uid: Uid) {
        if let Some(own) = self.suspects.get_mut(&uid) {
            own.remove(&id);
            if own.is_empty() {
                self.suspects.remove(&uid);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let suspects = self.suspects.values().flat_map(HashMap::values).map(|suspect| suspect.next);
        suspects.chain(self.rescans.iter().copied()).chain(self.next_unwatched).min()
    }

    /// Records a change among the buffers that are not watched: a client often releases several.
    /// Returns whether the next check is sooner than before.
    fn look_soon(&mut self, now: Instant) -> bool {
        let soon = now + UNWATCHED_PAUSE.max(self.rest);
        let is_sooner = self.next_unwatched.is_none_or(|next| soon < next);
        if is_sooner {
            self.next_unwatched = Some(soon);
        }
        self.unwatched_pause = UNWATCHED_PAUSE;
        is_sooner
    }

    fn looked(&mut self, took: Duration, ended: Instant) {
        self.rest = (REST * took).min(LONGEST_REST);
        let earliest = ended + self.rest;
        self.next_unwatched = self.next_unwatched.map(|next| next.max(earliest));
    }

    fn take_due(&mut self, now: Instant) -> Due {
        let mut due = Due { stopped: self.stopped, ..Due::default() };
        let mut take = |id: &BufferId, suspect: &mut Suspect| {
            if suspect.next > now {
                return true;
            }
            due.buffers.push(*id);
            suspect.looks += 1;
            suspect.next = now
                + match suspect.looks.checked_sub(EAGER_LOOKS) {
                    None => FIRST_LOOK * (1 << suspect.looks),
                    Some(_) => PATIENT,
                };
            suspect.looks <= MAX_LOOKS
        };
        self.suspects.retain(|_, own| {
            own.retain(&mut take);
            !own.is_empty()
        });
        if self.next_unwatched.is_some_and(|next| next <= now) {
            due.buffers.extend(self.unwatched.values().flat_map(|unwatched| &unwatched.ids));
            self.next_unwatched = (!self.unwatched.is_empty()).then(|| now + self.unwatched_pause);
            self.unwatched_pause = (self.unwatched_pause * 2).min(CALM_PAUSE);
        }
        let before = self.rescans.len();
        self.rescans.retain(|rescan| *rescan > now);
        due.everything = self.rescans.len() < before;
        due
    }
}

#[cfg(test)]
mod tests;
