// SPDX-License-Identifier: Apache-2.0
//! One heap's books: room and ION's counters.

/// Counters of one heap, all from the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeapCounters {
    /// ION's `num_of_buffers`: deferred frees count.
    pub buffers: u64,
    /// ION's `num_of_alloc_bytes`: deferred frees count.
    pub bytes: u64,
    /// Bytes of buffers that were released and are not yet truly freed.
    pub deferred_bytes: u64,
    /// Bytes set aside for buffers that clients reserved and do not hold; not in `bytes`.
    pub reserved_bytes: u64,
    /// ION's `alloc_bytes_wm`: highest `bytes` ever; never reset.
    pub bytes_watermark: u64,
    /// Buffers handed out since the start.
    pub allocations: u64,
    /// Buffers whose last holder let go.
    pub frees: u64,
    /// Failed requests, by [`FailureCause`].
    pub failures: [u64; FailureCause::COUNT],
}

/// Why a request failed, as far as one heap is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// No memory, room or descriptors.
    NoMemory,
    /// The client's quota.
    Quota,
    /// The client may not use the heap.
    NotPermitted,
    /// The heap cannot give this kind of buffer.
    Unsupported,
    /// The kernel failed unexpectedly.
    Backend,
}

impl FailureCause {
    /// How many there are.
    pub const COUNT: usize = 5;
}

impl HeapCounters {
    /// Buffers that were released and are not yet truly freed.
    pub fn deferred_buffers(&self) -> u64 {
        self.buffers - (self.allocations - self.frees)
    }

    /// Requests that failed for `cause`.
    pub fn failed(&self, cause: FailureCause) -> u64 {
        self.failures[cause as usize]
    }
}

/// Room and counters.
#[derive(Debug)]
pub(super) struct HeapAccount {
    /// Bytes it may hold; `None` for no limit of its own.
    pub(super) capacity: Option<u64>,
    /// Bytes of live buffers, of reservations, and set aside.
    pub(super) booked: u64,
    pub(super) counters: HeapCounters,
}

impl HeapAccount {
    pub(super) fn new(capacity: Option<u64>) -> Self {
        Self { capacity, booked: 0, counters: HeapCounters::default() }
    }

    pub(super) fn allocated(&mut self, buffers: u64, bytes: u64) {
        let counters = &mut self.counters;
        counters.allocations += buffers;
        counters.buffers += buffers;
        counters.bytes += bytes;
        counters.bytes_watermark = counters.bytes_watermark.max(counters.bytes);
    }

    pub(super) fn released(&mut self, bytes: u64) {
        self.counters.frees += 1;
        self.counters.deferred_bytes += bytes;
    }

    pub(super) fn retired(&mut self, buffers: u64, bytes: u64) {
        self.booked -= bytes;
        self.counters.buffers -= buffers;
        self.counters.bytes -= bytes;
        self.counters.deferred_bytes -= bytes;
    }

    pub(super) fn count_failure(&mut self, cause: FailureCause) {
        self.counters.failures[cause as usize] += 1;
    }
}
