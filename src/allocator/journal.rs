// SPDX-License-Identifier: Apache-2.0
//! The journal: the last calls, releases and changes of memory pressure, for traces.
//!
//! It is bounded: [`ROOM`] events of fixed size in memory that is reserved at the start. A new
//! event replaces the oldest. Its lock is a leaf. It is held for one event, or for [`PIECE`] of
//! them while they are copied for a reader, and never during a system call.

use super::{Action, Allocator, Caller, Outcome, PressureLevel, Record, Request};
use crate::ledger::{FailureCause, HeapIndex};
use crate::sys::clock::since_boot;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::units::Uid;
use std::sync::PoisonError;
use std::time::Duration;

/// Most events that are kept.
const ROOM: usize = 16_384;
const _: () = assert!(ROOM * size_of::<Event>() <= 3 << 19, "at most 1.5 MiB");
/// Events that are copied in one hold of the lock.
const PIECE: usize = 256;

/// An entry of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Time since boot when it ended.
    pub at: Duration,
    /// The kind of event, with its values.
    pub what: What,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A call was served.
    Allocated {
        /// Client, heap and bytes of the event.
        deal: Deal,
        /// Duration of the call within the service.
        took: Duration,
    },
    /// A heap refused a call.
    Refused {
        /// Client, heap and bytes of the event.
        deal: Deal,
        /// The reason.
        cause: FailureCause,
    },
    /// A buffer was detected as released.
    Released(Deal),
    /// The level of memory pressure changed to this one.
    Pressure(PressureLevel),
}

/// Client, heap and bytes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deal {
    /// The heap.
    pub heap: HeapIndex,
    /// The uid that is charged.
    pub uid: Uid,
    /// The process that made the request; 0 if the transport does not report it.
    pub pid: i32,
    /// Number of buffers.
    pub count: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of the heap that clients hold after the event.
    pub live_bytes: u64,
}

/// A part of the journal.
#[derive(Debug, Default)]
pub struct Pages {
    /// The events, each with its number, the oldest first.
    pub events: Vec<(u64, Event)>,
    /// The number of the next event.
    pub next: u64,
    /// Number of requested events that the journal had already overwritten.
    pub lost: u64,
}

/// The last events, under the lock.
pub(super) struct Journal(Mutex<Ring>);

struct Ring {
    /// The event of number n is at `n % ROOM`.
    events: Vec<Event>,
    next: u64,
    pressure: PressureLevel,
}

impl Default for Journal {
    fn default() -> Self {
        let events = Vec::with_capacity(ROOM);
        Self(Mutex::new(Ring { events, next: 0, pressure: PressureLevel::None }))
    }
}

impl Ring {
    fn add(&mut self, event: Event) {
        if self.events.len() < ROOM {
            self.events.push(event);
        } else {
            self.events[place(self.next)] = event;
        }
        self.next += 1;
    }

    /// Returns the number of the oldest event in the journal.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }
}

fn place(number: u64) -> usize {
    // Less than ROOM.
    usize::try_from(number % ROOM as u64).unwrap_or(0)
}

impl Journal {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event that ended now.
    fn add(&self, what: What) {
        let event = Event { at: since_boot(), what };
        self.ring().add(event);
    }

    /// Adds a change of memory pressure; nothing if the level is that of the last change.
    fn add_pressure(&self, level: PressureLevel) {
        let at = since_boot();
        let mut ring = self.ring();
        if std::mem::replace(&mut ring.pressure, level) != level {
            ring.add(Event { at, what: What::Pressure(level) });
        }
    }

    /// Returns the events from the number `since` on for which `is_shown` holds.
    fn read(&self, since: u64, is_shown: impl Fn(&Event) -> bool) -> Pages {
        let mut pages = Pages { next: since, ..Pages::default() };
        loop {
            let ring = self.ring();
            let first = pages.next.max(ring.oldest()).min(ring.next);
            pages.lost += first.saturating_sub(pages.next);
            let last = (first + PIECE as u64).min(ring.next);
            let piece: Vec<_> = (first..last).map(|number| (number, ring.events[place(number)])).collect();
            let is_all = last == ring.next;
            drop(ring);
            pages.events.extend(piece.into_iter().filter(|(_, event)| is_shown(event)));
            pages.next = last;
            if is_all {
                return pages;
            }
        }
    }
}

impl Allocator {
    /// Returns the journal from the event with number `since` on: all events for a privileged
    /// caller, else the caller's own calls and releases, and memory pressure.
    pub fn journal(&self, caller: &Caller, since: u64) -> Pages {
        let everyone = self.authorize(caller, Action::SeeOthers).is_ok();
        self.journal.read(since, |event| match &event.what {
            What::Allocated { deal, .. } | What::Refused { deal, .. } | What::Released(deal) => {
                everyone || deal.uid == caller.uid
            }
            What::Pressure(_) => true,
        })
    }

    /// Records that a call was served.
    pub(super) fn note_served(
        &self,
        caller: &Caller,
        (heap, count, bytes): (HeapIndex, usize, u64),
        took: Duration,
    ) {
        let deal = self.deal(heap, (caller.uid, caller.pid), count, bytes);
        self.journal.add(What::Allocated { deal, took });
    }

    /// Records that a heap refused a call, if the heap or the caller caused it.
    pub(super) fn note_refused(
        &self,
        caller: &Caller,
        request: &Request,
        heap: HeapIndex,
        outcome: &Outcome,
    ) {
        let Some(cause) = outcome.cause() else { return };
        let count = request.count.get();
        let bytes = request.needs.bytes.positive().unwrap_or(0).saturating_mul(count as u64);
        let deal = self.deal(heap, (caller.uid, caller.pid), count, bytes);
        self.journal.add(What::Refused { deal, cause });
    }

    /// Records that a buffer was released.
    pub(super) fn note_released(&self, record: &Record) {
        let deal = self.deal(record.heap, (record.uid, record.pid), 1, record.bytes.get());
        self.journal.add(What::Released(deal));
    }

    /// Records the level of memory pressure if it changed.
    pub(super) fn note_pressure(&self) {
        self.journal.add_pressure(self.pressure());
    }

    fn deal(&self, heap: HeapIndex, (uid, pid): (Uid, i32), count: usize, bytes: u64) -> Deal {
        let counters = self.heaps[heap].pool().account().counters();
        Deal {
            heap,
            uid,
            pid,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            bytes,
            live_bytes: counters.bytes.saturating_sub(counters.deferred_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32) -> What {
        let deal = Deal { heap: 0, uid: Uid(uid), pid: 1, count: 1, bytes: 4096, live_bytes: 0 };
        What::Released(deal)
    }

    #[test]
    fn the_oldest_events_give_way_and_are_counted() {
        let journal = Journal::default();
        let all = ROOM as u64 + 10;
        for number in 0..all {
            journal.add(of(u32::try_from(number).expect("small")));
        }
        let pages = journal.read(4, |_| true);
        assert_eq!((pages.events.len(), pages.next, pages.lost), (ROOM, all, 6));
        assert_eq!((pages.events[0].0, pages.events[0].1.what), (10, of(10)));
        assert_eq!(pages.events[ROOM - 1].1.what, of(u32::try_from(all - 1).expect("small")));
        let rest = journal.read(all - 1, |_| true);
        assert_eq!((rest.events.len(), rest.next, rest.lost), (1, all, 0));
    }

    #[test]
    fn a_reader_gets_what_it_may_see_and_the_number_to_go_on_from() {
        let journal = Journal::default();
        [1, 2, 1].into_iter().for_each(|uid| journal.add(of(uid)));
        let own = journal.read(0, |event| event.what == of(1));
        assert_eq!(own.events.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(own.next, 3);
        // A number that is not in use yet: a client had it from the service before a restart.
        let ahead = journal.read(1000, |_| true);
        assert_eq!((ahead.events.len(), ahead.next, ahead.lost), (0, 3, 0));
    }

    #[test]
    fn pressure_is_noted_when_it_changes() {
        let journal = Journal::default();
        for level in
            [PressureLevel::None, PressureLevel::Critical, PressureLevel::Critical, PressureLevel::None]
        {
            journal.add_pressure(level);
        }
        let levels: Vec<_> =
            journal.read(0, |_| true).events.into_iter().map(|(_, event)| event.what).collect();
        assert_eq!(levels, [PressureLevel::Critical, PressureLevel::None].map(What::Pressure));
    }
}
