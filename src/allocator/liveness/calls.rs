// SPDX-License-Identifier: Apache-2.0
//! Checks of a call that is about to be refused: buffers that a recent event named, and buffers
//! without close events.

use super::{EAGER_LOOKS, FIRST_LOOK, LONGEST_REST, Liveness, REST, Suspect};
use crate::units::{BufferId, Uid};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Most buffers with recent events that a call checks again.
const MAX_LIKELY: usize = 256;
/// Number of uids with recorded checks from which entries whose pause is over are removed.
const MAX_LOOKERS: usize = 1024;

impl Liveness {
    /// Records that the calling thread is about to read events. Returns its number as a reader.
    pub(in crate::allocator) fn begin_reading(&self) -> u64 {
        let mut pending = self.pending();
        let reader = pending.next_reader;
        pending.next_reader += 1;
        pending.readers.insert(reader);
        reader
    }

    /// Records the buffers that the events of a reader named. From now on other threads need not
    /// wait for this reader.
    pub(in crate::allocator) fn end_reading(&self, reader: u64, named: &[(BufferId, Uid)], now: Instant) {
        let mut pending = self.pending();
        for (id, uid) in named {
            let suspect = Suspect { looks: 0, next: now + FIRST_LOOK };
            pending.suspects.entry(*uid).or_default().insert(*id, suspect);
        }
        pending.readers.remove(&reader);
    }

    /// Returns the number that the next reader gets.
    pub(in crate::allocator) fn next_reader(&self) -> u64 {
        self.pending().next_reader
    }

    /// Returns whether an earlier reader has not yet recorded what it read.
    pub(in crate::allocator) fn is_being_read_before(&self, reader: u64) -> bool {
        self.pending().readers.first().is_some_and(|first| *first < reader)
    }

    /// Records that a buffer named by an event no longer exists.
    pub(in crate::allocator) fn gone(&self, id: BufferId, uid: Uid) {
        self.pending().acquit(id, uid);
    }

    /// Returns the buffers of `uid` that an event named and that were checked at most once since.
    /// Adds some of those that an event named within about the last second and that were held.
    pub(in crate::allocator) fn likely_released(&self, uid: Uid) -> Vec<BufferId> {
        let pending = self.pending();
        let Some(own) = pending.suspects.get(&uid) else { return Vec::new() };
        let looked_at = |range: RangeInclusive<u32>| {
            own.iter().filter(move |(_, suspect)| range.contains(&suspect.looks)).map(|(id, _)| *id)
        };
        looked_at(0..=1).chain(looked_at(2..=EAGER_LOOKS).take(MAX_LIKELY)).collect()
    }

    /// Returns the buffers of `uid` whose release the kernel does not report; `None` means all its
    /// buffers, while dropped events are being made up for.
    pub(in crate::allocator) fn unreported(&self, uid: Uid) -> Option<Vec<BufferId>> {
        let pending = self.pending();
        if !pending.rescans.is_empty() {
            return None;
        }
        Some(pending.unwatched.get(&uid).map_or_else(Vec::new, |own| own.ids.iter().copied().collect()))
    }

    /// Requests a turn for a call of `uid` to check its buffers without close events. Returns the
    /// pause before the next request: zero if the call has the turn now. Returns `None` if there is
    /// no such buffer or too many calls of the uid wait already. These checks take at most a fifth
    /// of the time, for any number of requests.
    pub(in crate::allocator) fn turn_to_look(&self, uid: Uid, now: Instant) -> Option<Duration> {
        let mut pending = self.pending();
        if pending.rescans.is_empty() && !pending.unwatched.contains_key(&uid) {
            return None;
        }
        if pending.next_looks.len() >= MAX_LOOKERS {
            pending.next_looks.retain(|_, (next, _)| *next > now);
        }
        let (next, took) = pending.next_looks.entry(uid).or_insert((now, Duration::ZERO));
        let wait = next.saturating_duration_since(now);
        if wait.is_zero() {
            *next = now + (1 + REST) * *took;
        }
        (wait < LONGEST_REST).then_some(wait)
    }

    /// Records the end of such a check, which took `took`.
    pub(in crate::allocator) fn looked_for(&self, uid: Uid, took: Duration, ended: Instant) {
        self.pending().next_looks.insert(uid, (ended + REST * took, took));
    }
}
