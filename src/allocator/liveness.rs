// SPDX-License-Identifier: Apache-2.0
//! Buffers that may have been released, and the times of their next checks.
//!
//! # How a release is noticed
//! A close event names the buffer; the lease then shows whether another process still holds it. The
//! kernel queues the event *before* it stops counting the closing description (fs/file_table.c,
//! `__fput`), so a lease requested at once can still be refused: such a *suspect* is checked again,
//! soon at first, then at growing intervals. If it is really held (through another description),
//! its own last close brings a new event.
//!
//! Buffers that could not be watched, and all buffers after the event queue overflowed, are found
//! by asking leases alone.
//!
//! # Who may hold which lock
//! `pending` is a leaf: nothing else is locked, and no system call is made, while it is held.

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

/// Pauses between looks at a suspect: 1 ms, doubled each time up to a second, then as long as
/// [`PATIENT`].
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Looks that double the pause.
const EAGER_LOOKS: u32 = 10;
/// Pause of the later looks.
const PATIENT: Duration = Duration::from_secs(5);
/// Looks after which a suspect is taken to be held.
const MAX_LOOKS: u32 = EAGER_LOOKS + 12;
/// Pause between looks at buffers that are not watched, doubled while nothing happens to them, up
/// to [`CALM_PAUSE`].
const UNWATCHED_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between looks at buffers that are not watched.
const CALM_PAUSE: Duration = Duration::from_millis(400);
/// Pause until the next check, at least, as a multiple of the duration of the last one: checks may
/// take a fifth of a processor. Returning memory does not count.
const REST: u32 = 4;
/// Longest such pause.
const LONGEST_REST: Duration = PATIENT;
/// Bytes of unwatched buffers that a uid allocates before its calls look at all of its buffers.
/// After half of that they look at the newest and the oldest. Asking about one takes some µs.
const LOOK_BYTES: u64 = 8 << 20;
/// Time after an overflow at which everything is checked again: closes that were in progress need a
/// moment.
const RESCANS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_secs(1)];

/// Buffers that wait for a check.
pub(super) struct Liveness {
    pub(super) watcher: CloseWatcher,
    wake: EventFd,
    pending: Mutex<Pending>,
    /// It was logged that buffers are not watched.
    complained: AtomicBool,
    /// The progress of the reaper.
    pub(super) pulse: Arc<Pulse>,
}

#[derive(Default)]
struct Pending {
    /// Threads that are reading events and have not told which, by their numbers.
    readers: BTreeSet<u64>,
    next_reader: u64,
    suspects: HashMap<Uid, HashMap<BufferId, Suspect>>,
    /// When calls of a uid may look at its unreported buffers again, and how long the last look
    /// took.
    next_looks: HashMap<Uid, (Instant, Duration)>,
    unwatched: HashMap<Uid, Unwatched>,
    next_unwatched: Option<Instant>,
    /// Time to wait after that.
    unwatched_pause: Duration,
    /// Minimum time until the next check, since the last one took long.
    rest: Duration,
    rescans: Vec<Instant>,
    unanswered: Throttle,
    overflows: Throttle,
    stopped: bool,
}

/// Buffers of one uid that the kernel reports nothing about.
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
    /// They are all unwatched buffers of the caller.
    pub(super) is_all: bool,
}

/// Checks that are due now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Buffers to ask about.
    pub(super) buffers: Vec<BufferId>,
    /// Every live buffer is to be asked about.
    pub(super) everything: bool,
    /// The service is ending.
    pub(super) stopped: bool,
}

impl Liveness {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (watcher, complained) = (CloseWatcher::new(), AtomicBool::new(false));
        Ok(Self { watcher, wake, pending: Mutex::default(), complained, pulse: Arc::default() })
    }

    /// Notes that a buffer could not be watched for lack of watches or of a queue. Logs it once,
    /// with the limit: from then on leases are polled, as long as the lack lasts.
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

    /// Returns the reaper's progress. A check of it has the reaper look for releases.
    pub(super) fn watched(self: &Arc<Self>) -> Watched {
        let liveness = Arc::clone(self);
        let is_due = move || {
            liveness.wake();
            true
        };
        Watched { task: "notices releases", pulse: Arc::clone(&self.pulse), is_due: Box::new(is_due) }
    }

    /// Notes that a buffer which an event named is still held.
    pub(super) fn suspect(&self, id: BufferId, uid: Uid, now: Instant) {
        let suspect = Suspect { looks: 1, next: now + FIRST_LOOK };
        self.pending().suspects.entry(uid).or_default().insert(id, suspect);
        self.wake();
    }

    /// Notes buffers of `bytes` bytes each that were allocated and that the kernel will not report
    /// on.
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
        // The caller does not pay for waking a thread that wakes up in time by itself.
        if is_sooner {
            self.wake();
        }
    }

    /// Returns the unwatched buffers that a call of `uid` is to look at before it allocates `bytes`
    /// bytes more: those that were most likely released first, the newest and the oldest in turn.
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

    /// Notes that a call of `uid` has made the checks that were due, and found `released` bytes.
    pub(super) fn found(&self, uid: Uid, looked_at_all: bool, released: u64) {
        if let Some(unwatched) = self.pending().unwatched.get_mut(&uid) {
            let left = unwatched.allocated.saturating_sub(released);
            unwatched.allocated = if looked_at_all { 0 } else { left };
        }
    }

    /// Has the reaper look at all unwatched buffers at once: memory is scarce.
    pub(super) fn look_now(&self, now: Instant) {
        let mut pending = self.pending();
        if pending.unwatched.is_empty() {
            return;
        }
        pending.next_unwatched = Some(now);
        drop(pending);
        self.wake();
    }

    /// Notes that the kernel dropped events. If a log line about that is due now, it returns how
    /// many lines were left out before it: clients can make events overflow.
    pub(super) fn overflowed(&self, now: Instant) -> Option<u64> {
        let mut pending = self.pending();
        // In place of those of an earlier one: events can be made to overflow again and again.
        let rest = pending.rest;
        pending.rescans = RESCANS.map(|pause| now + pause.max(rest)).to_vec();
        let line = pending.overflows.admit(now);
        drop(pending);
        self.wake();
        line
    }

    /// Notes that the kernel did not answer whether a buffer is held. If a log line about that is
    /// due now, it returns how many lines were left out before it: a check that fails for every
    /// buffer must not fill the log.
    pub(super) fn unanswered(&self, now: Instant) -> Option<u64> {
        self.pending().unanswered.admit(now)
    }

    /// Notes that a buffer of `uid` was released: nothing about it is pending any more.
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
    /// either it blocks without a limit: an idle service does not wake up.
    pub(super) fn wait(&self) {
        let timeout = self.pending().next_due().map(|due| due.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends too early would be followed by another.
        let timeout = timeout.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let ready = [Some(self.wake.as_fd()), self.watcher.ready()].into_iter().flatten();
        let mut fds: Vec<_> = ready.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An interrupted wait is followed by another.
        let _ = poll(&mut fds, timeout);
        if fds[0].any() == Some(true) {
            let _ = self.wake.read();
        }
    }

    /// Notes the end of a look at what was due, in which asking took `took`: one that took long is
    /// not followed by another at once.
    pub(super) fn looked(&self, took: Duration, ended: Instant) {
        self.pending().looked(took, ended);
    }

    /// Takes what is due at `now`, and plans the next look.
    pub(super) fn due(&self, now: Instant) -> Due {
        self.pending().take_due(now)
    }
}

impl Pending {
    /// Notes that a buffer is no suspect any more.
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

    /// Notes that something happened to the buffers that are not watched: what one client does is
    /// often not alone. Returns whether the next look is sooner than it was.
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
