// SPDX-License-Identifier: Apache-2.0
//! Which buffers may have been released, and when to look again.
//!
//! # How a release is noticed
//! A close event names the buffer; the lease then tells whether anybody still holds it. The kernel
//! queues the event *before* it gives up the closing description's hold (fs/file_table.c,
//! `__fput`), so a lease asked at once can still say "held": such a *suspect* is looked at again,
//! soon at first, then ever more rarely. If it is really held (through another description), its
//! own last close brings a new event.
//!
//! Buffers that could not be watched, and all buffers after the event queue overflowed, are found
//! by asking leases alone.
//!
//! # Who may hold which lock
//! `pending` is a leaf: nothing else is locked, and no system call is made, while it is held.

use super::throttle::Throttle;
use crate::sys::inotify::CloseWatcher;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::units::{BufferId, Uid};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::sync::PoisonError;
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
/// How many times as long as asking took in the last look, at least, until the next: asking may
/// take a fifth of a processor. Giving memory back does not count.
const REST: u32 = 4;
/// Longest such pause.
const LONGEST_REST: Duration = PATIENT;
/// Bytes of unwatched buffers that a uid allocates before its calls look at all of its buffers.
/// After half of that they look at the newest and the oldest. Asking about one takes some µs.
const LOOK_BYTES: u64 = 8 << 20;
/// When everything is looked at again after an overflow: closes that were in progress need a
/// moment.
const RESCANS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_secs(1)];

/// What is waiting to be looked at.
pub(super) struct Liveness {
    pub(super) watcher: CloseWatcher,
    wake: EventFd,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    suspects: HashMap<BufferId, Suspect>,
    unwatched: HashMap<Uid, Unwatched>,
    next_unwatched: Option<Instant>,
    /// How long to wait after that.
    unwatched_pause: Duration,
    /// How long the next look waits at least, since the last one took long.
    rest: Duration,
    rescans: Vec<Instant>,
    unanswered: Throttle,
    stopped: bool,
}

/// Buffers of one uid that the kernel reports nothing about.
#[derive(Default)]
struct Unwatched {
    /// The oldest first.
    ids: BTreeSet<BufferId>,
    /// Bytes allocated since all were looked at, less what was found to be released.
    allocated: u64,
}

struct Suspect {
    looks: u32,
    next: Instant,
}

/// What a call is to look at before it allocates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) ids: Vec<BufferId>,
    /// They are all unwatched buffers of the caller.
    pub(super) is_all: bool,
}

/// What is due now.
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
        Ok(Self { watcher: CloseWatcher::new()?, wake, pending: Mutex::default() })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full counter is readable already.
        let _ = self.wake.write(1);
    }

    /// Notes that a buffer which an event named is still held.
    pub(super) fn suspect(&self, id: BufferId, now: Instant) {
        self.pending().suspects.insert(id, Suspect { looks: 1, next: now + FIRST_LOOK });
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

    /// Notes that a call of `uid` has looked at what was due, and found `released` bytes.
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

    /// Notes that the kernel dropped events.
    pub(super) fn overflowed(&self, now: Instant) {
        self.pending().rescans.extend(RESCANS.map(|pause| now + pause));
        self.wake();
    }

    /// Notes that the kernel did not answer whether a buffer is held. Returns how many lines were
    /// left out of the log before the one that is due now, if one is: what fails for every buffer
    /// and at every look must not fill the log.
    pub(super) fn unanswered(&self, now: Instant) -> Option<u64> {
        self.pending().unanswered.admit(now)
    }

    /// Notes that a buffer of `uid` was released: nothing about it is pending any more.
    pub(super) fn released(&self, id: BufferId, uid: Uid) {
        let mut pending = self.pending();
        pending.suspects.remove(&id);
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

    /// Blocks until a close is queued, something is due, or another thread has news. Without either
    /// it blocks for ever: an idle service does not wake up.
    pub(super) fn wait(&self) {
        let timeout = self.pending().next_due().map(|due| due.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends too early would be followed by another.
        let timeout = timeout.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let readable = PollFlags::POLLIN;
        let mut fds = [PollFd::new(self.watcher.as_fd(), readable), PollFd::new(self.wake.as_fd(), readable)];
        // An interrupted wait is followed by another.
        let _ = poll(&mut fds, timeout);
        if fds[1].any() == Some(true) {
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
    fn next_due(&self) -> Option<Instant> {
        let suspects = self.suspects.values().map(|suspect| suspect.next);
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
        self.suspects.retain(|id, suspect| {
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
mod tests {
    use super::*;

    const ID: BufferId = BufferId(7);
    const UID: Uid = Uid(1000);

    #[test]
    fn a_suspect_is_looked_at_ever_more_rarely_and_then_no_more() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        pending.suspects.insert(ID, Suspect { looks: 1, next: start + FIRST_LOOK });
        let (mut looks, mut now, mut pauses) = (0, start, Vec::new());
        while let Some(next) = pending.next_due() {
            pauses.push(next - now);
            now = next;
            assert_eq!(pending.take_due(now).buffers, [ID]);
            looks += 1;
        }
        assert_eq!(looks, MAX_LOOKS);
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(now - start > Duration::from_secs(30) && now - start < Duration::from_secs(120));
    }

    #[test]
    fn what_stays_unanswered_fills_no_log() {
        let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
        let lines: Vec<_> =
            (0..100).filter_map(|look| liveness.unanswered(start + UNWATCHED_PAUSE * look)).collect();
        assert_eq!(lines, [0, 19, 19, 19, 19], "one a second, and the others are counted");
    }

    #[test]
    fn a_released_buffer_wakes_no_thread() {
        let liveness = Liveness::new().expect("inotify");
        liveness.suspect(ID, Instant::now());
        liveness.released(ID, UID);
        assert_eq!(liveness.pending().next_due(), None);
    }

    #[test]
    fn unwatched_buffers_are_looked_at_until_they_are_gone() {
        let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
        liveness.unwatched(UID, &[ID], 4096, start);
        let later = start + UNWATCHED_PAUSE;
        assert_eq!(liveness.due(start), Due::default());
        assert_eq!(liveness.due(later).buffers, [ID]);
        liveness.released(ID, UID);
        assert_eq!(liveness.due(later + UNWATCHED_PAUSE), Due::default());
        assert_eq!(liveness.pending().next_due(), None, "no wake-ups without unwatched buffers");
    }

    #[test]
    fn a_look_that_takes_long_is_followed_by_a_long_rest() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        pending.unwatched.entry(UID).or_default().ids.insert(ID);
        pending.look_soon(start);
        let began = start + UNWATCHED_PAUSE;
        assert_eq!(pending.take_due(began).buffers, [ID]);
        let ended = began + Duration::from_millis(600);
        pending.looked(ended - began, ended);
        assert_eq!(pending.take_due(ended).buffers, []);
        assert!(!pending.look_soon(ended), "what happens meanwhile does not shorten it");
        let rested = ended + Duration::from_millis(2400);
        assert_eq!(pending.next_due(), Some(rested));
        assert_eq!(pending.take_due(rested).buffers, [ID]);
        pending.looked(Duration::from_millis(1), rested + Duration::from_millis(1));
        assert_eq!(
            pending.next_due(),
            Some(rested + UNWATCHED_PAUSE),
            "a short one is followed as soon as ever"
        );
    }

    #[test]
    fn calls_look_at_more_the_more_they_allocate() {
        let (liveness, now) = (Liveness::new().expect("inotify"), Instant::now());
        assert_eq!(liveness.due_before(UID, LOOK_BYTES + 1), Look::default(), "there is none");
        let ids: Vec<_> = (1..=5).map(BufferId).collect();
        liveness.unwatched(UID, &ids, 1, now);
        let look = |ids: &[u64], is_all| Look { ids: ids.iter().copied().map(BufferId).collect(), is_all };
        assert_eq!(liveness.due_before(UID, 1), look(&[], false));
        assert_eq!(liveness.due_before(UID, LOOK_BYTES / 2), look(&[5, 1], false));
        assert_eq!(liveness.due_before(UID, LOOK_BYTES), look(&[5, 1, 4, 2, 3], true));
        assert_eq!(liveness.due_before(Uid(1), LOOK_BYTES), Look::default(), "another uid's");
        liveness.unwatched(UID, &[BufferId(6)], LOOK_BYTES, now);
        assert!(liveness.due_before(UID, 1).is_all);
        liveness.found(UID, false, LOOK_BYTES);
        assert_eq!(liveness.due_before(UID, 1), look(&[], false), "what was released counts no more");
        liveness.unwatched(UID, &[BufferId(7)], LOOK_BYTES, now);
        liveness.found(UID, true, 0);
        assert_eq!(liveness.due_before(UID, 1), look(&[], false), "all were looked at");
    }

    #[test]
    fn only_a_look_that_comes_sooner_is_news() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        assert!(pending.look_soon(start));
        assert!(!pending.look_soon(start) && !pending.look_soon(start + UNWATCHED_PAUSE));
        pending.unwatched.entry(UID).or_default().ids.insert(ID);
        while pending.unwatched_pause < CALM_PAUSE {
            pending.take_due(pending.next_unwatched.expect("planned"));
        }
        let last = pending.next_unwatched.expect("planned");
        pending.take_due(last);
        assert!(pending.look_soon(last), "it was planned for later");
    }

    #[test]
    fn an_overflow_looks_at_everything_more_than_once() {
        let (liveness, start) = (Liveness::new().expect("inotify"), Instant::now());
        liveness.overflowed(start);
        assert!(liveness.due(start).everything);
        assert!(!liveness.due(start).everything);
        assert!(liveness.due(start + Duration::from_secs(2)).everything);
        assert_eq!(liveness.pending().next_due(), None);
    }
}
