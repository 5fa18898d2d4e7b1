// SPDX-License-Identifier: Apache-2.0
//! The journal in the form for tools. Scripts depend on the keys: keys may be added, but not
//! renamed.

use crate::allocator::{Allocator, Caller, Deal, Event, What};
use crate::ledger::FailureCause;
use crate::sys::clock::since_boot;
use serde::Serialize;

/// A part of the journal, and the context that a reader needs.
#[derive(Serialize)]
pub(super) struct JournalReport {
    /// Number of the first event after this report.
    next: u64,
    /// Number of requested events that are no longer kept.
    lost: u64,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`), the clock of all events.
    now_ns: u64,
    pressure: &'static str,
    heaps: Vec<HeapRow>,
    events: Vec<EventRow>,
}

/// A heap at the time of the report.
#[derive(Serialize)]
struct HeapRow {
    id: u8,
    name: String,
    capacity: Option<u64>,
    live_bytes: u64,
    pooled_bytes: u64,
}

#[derive(Serialize)]
struct EventRow {
    number: u64,
    at_ns: u64,
    /// `allocate`, `refuse`, `release` or `pressure`.
    what: &'static str,
    #[serde(flatten)]
    deal: Option<DealRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ns: Option<u64>,
    /// Cause of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// Level of a change of memory pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
}

#[derive(Serialize)]
struct DealRow {
    heap: String,
    uid: u32,
    pid: i32,
    count: u32,
    bytes: u64,
    live_bytes: u64,
}

impl JournalReport {
    /// Returns the events from number `since` on that `caller` may see.
    pub(super) fn new(allocator: &Allocator, caller: &Caller, since: u64) -> Self {
        let stats = allocator.stats();
        let heaps = stats.iter().map(|view| HeapRow {
            id: view.heap.id().get(),
            name: view.heap.name().to_string(),
            capacity: view.heap.capacity(),
            live_bytes: view.counters.bytes.saturating_sub(view.counters.deferred_bytes),
            pooled_bytes: view.pool.pooled_bytes,
        });
        let heaps = heaps.collect();
        let pages = allocator.journal(caller, since);
        let row = |(number, event): (u64, Event)| EventRow::new(allocator, number, &event);
        Self {
            next: pages.next,
            lost: pages.lost,
            now_ns: nanoseconds(since_boot().as_nanos()),
            pressure: super::pressure(allocator.pressure()),
            heaps,
            events: pages.events.into_iter().map(row).collect(),
        }
    }
}

impl EventRow {
    fn new(allocator: &Allocator, number: u64, event: &Event) -> Self {
        let deal = |deal: &Deal| {
            Some(DealRow {
                heap: allocator.heaps()[deal.heap].name().to_string(),
                uid: deal.uid.0,
                pid: deal.pid,
                count: deal.count,
                bytes: deal.bytes,
                live_bytes: deal.live_bytes,
            })
        };
        let at_ns = nanoseconds(event.at.as_nanos());
        let bare =
            Self { number, at_ns, what: "pressure", deal: None, took_ns: None, cause: None, level: None };
        match &event.what {
            What::Allocated { deal: of, took } => {
                let took_ns = Some(nanoseconds(took.as_nanos()));
                Self { what: "allocate", deal: deal(of), took_ns, ..bare }
            }
            What::Refused { deal: of, cause } => {
                Self { what: "refuse", deal: deal(of), cause: Some(word(*cause)), ..bare }
            }
            What::Released(of) => Self { what: "release", deal: deal(of), ..bare },
            What::Pressure(level) => Self { level: Some(super::pressure(*level)), ..bare },
        }
    }
}

fn word(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::NoMemory => "no_memory",
        FailureCause::Quota => "quota",
        FailureCause::NotPermitted => "not_permitted",
        FailureCause::Unsupported => "unsupported",
        FailureCause::Backend => "backend",
    }
}

fn nanoseconds(nanoseconds: u128) -> u64 {
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}
