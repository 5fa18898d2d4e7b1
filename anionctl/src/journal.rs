// SPDX-License-Identifier: Apache-2.0
//! The service's journal: its last calls, releases and changes of memory pressure.

use crate::failure::Failure;
use crate::inspect::dump_as;
use anion_ipc::Strong;
use serde::Deserialize;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// A part of the journal.
#[derive(Debug, Deserialize)]
pub(crate) struct Journal {
    /// Number of the first event that the next part begins with.
    pub(crate) next: u64,
    /// Requested events that the journal no longer has.
    pub(crate) lost: u64,
    /// Nanoseconds since boot.
    pub(crate) now_ns: u64,
    pub(crate) pressure: String,
    pub(crate) heaps: Vec<HeapNow>,
    pub(crate) events: Vec<Event>,
}

/// A heap at the time when the journal was read.
#[derive(Debug, Deserialize)]
pub(crate) struct HeapNow {
    pub(crate) name: String,
    pub(crate) live_bytes: u64,
}

/// An event.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    /// When it ended, in nanoseconds since boot.
    pub(crate) at_ns: u64,
    /// `allocate`, `refuse`, `release` or `pressure`.
    pub(crate) what: String,
    #[serde(flatten)]
    pub(crate) deal: Option<Deal>,
    pub(crate) took_ns: Option<u64>,
    pub(crate) cause: Option<String>,
    pub(crate) level: Option<String>,
}

/// A request: the client, the heap and the size.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Deal {
    pub(crate) heap: String,
    pub(crate) uid: u32,
    pub(crate) pid: i32,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    /// Bytes of the heap that clients hold after the event.
    pub(crate) live_bytes: u64,
}

/// Returns the part of the journal that this caller may see, from the event of number `since` on.
///
/// # Errors
/// As [`dump_as`]. A service without a journal, which is an older version, refuses the request.
pub(crate) fn read(service: &Strong<dyn IHeapAllocator>, since: u64) -> Result<Journal, Failure> {
    dump_as(service, &["--journal", "--since", &since.to_string()])
}
