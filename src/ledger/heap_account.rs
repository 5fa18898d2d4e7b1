// SPDX-License-Identifier: Apache-2.0
//! The account of one heap: room, reserves and ION's counters.

use super::Refusal;
use crate::units::Uid;

/// Counters of one heap, all of the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeapCounters {
    /// ION's `num_of_buffers`: includes deferred frees.
    pub buffers: u64,
    /// ION's `num_of_alloc_bytes`: includes deferred frees.
    pub bytes: u64,
    /// Bytes of released buffers that are not yet freed.
    pub deferred_bytes: u64,
    /// Bytes of reservations that are not drawn; not in `bytes`.
    pub reserved_bytes: u64,
    /// ION's `alloc_bytes_wm`: highest value of `bytes`; never reset.
    pub bytes_watermark: u64,
    /// Buffers allocated since the start, and those of an earlier service that it took over.
    pub allocations: u64,
    /// Buffers released since the start.
    pub frees: u64,
    /// Failed requests, by [`FailureCause`].
    pub failures: [u64; FailureCause::COUNT],
}

/// Reason why a request failed at one heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// No memory, room or descriptors.
    NoMemory,
    /// The client's quota.
    Quota,
    /// The client may not use the heap.
    NotPermitted,
    /// The heap cannot make this kind of buffer.
    Unsupported,
    /// The kernel failed unexpectedly.
    Backend,
}

impl FailureCause {
    /// The number of causes.
    pub const COUNT: usize = 5;
}

impl HeapCounters {
    /// Returns the number of requests that failed for `cause`.
    pub fn failed(&self, cause: FailureCause) -> u64 {
        self.failures[cause as usize]
    }
}

/// Bytes of a heap that are reserved for one uid by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapReserve {
    /// The uid that may use them.
    pub uid: Uid,
    /// The number of bytes.
    pub bytes: u64,
}

/// Room and counters of one heap.
#[derive(Debug)]
pub struct HeapAccount {
    /// Most bytes that it may book; `None` if it has no limit.
    capacity: Option<u64>,
    /// Bytes of live buffers, of requests being served, and of reservations.
    booked: u64,
    /// The reserves, each with the bytes that its uid has booked.
    reserves: Vec<(HeapReserve, u64)>,
    counters: HeapCounters,
}

impl HeapAccount {
    /// Returns the account of an empty heap of `capacity` bytes, of which `reserves` are kept for
    /// some uids.
    pub fn new(capacity: Option<u64>, reserves: Vec<HeapReserve>) -> Self {
        let reserves = reserves.into_iter().map(|reserve| (reserve, 0)).collect();
        Self { capacity, booked: 0, reserves, counters: HeapCounters::default() }
    }

    /// Returns whether its reserves equal `reserves`, in any order.
    pub fn has_reserves(&self, reserves: &[HeapReserve]) -> bool {
        let of = |uid| reserves.iter().find(|reserve| reserve.uid == uid).map(|reserve| reserve.bytes);
        reserves.len() == self.reserves.len()
            && self.reserves.iter().all(|(own, _)| of(own.uid) == Some(own.bytes))
    }

    /// Returns its counters.
    pub fn counters(&self) -> HeapCounters {
        self.counters
    }

    /// Returns the bytes of live buffers, of requests being served, and of reservations.
    pub fn booked(&self) -> u64 {
        self.booked
    }

    /// Returns the bytes that are not booked; `None` if the heap has no limit.
    pub fn unbooked(&self) -> Option<u64> {
        Some(self.capacity?.saturating_sub(self.booked))
    }

    /// Returns the bytes that `uid` could still book, without the unused reserves of other uids;
    /// `None` if the heap has no limit.
    pub fn free(&self, uid: Uid) -> Option<u64> {
        let others = self.reserves.iter().filter(|(reserve, _)| reserve.uid != uid);
        let unused = others.map(|(reserve, used)| reserve.bytes.saturating_sub(*used));
        Some(self.unbooked()?.saturating_sub(unused.fold(0, u64::saturating_add)))
    }

    /// Returns whether `bytes` bytes could be booked for `uid` now.
    ///
    /// # Errors
    /// [`Refusal::HeapFull`].
    pub fn check(&self, uid: Uid, bytes: u64) -> Result<(), Refusal> {
        match (self.free(uid), self.capacity) {
            (Some(free), Some(capacity)) if bytes > free => {
                Err(Refusal::HeapFull { uid, asked: bytes, free, capacity })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether `bytes` bytes could be booked for `uid` in an empty heap.
    ///
    /// # Errors
    /// [`Refusal::HeapFull`], with the bytes that are free in an empty heap.
    pub fn check_empty(&self, uid: Uid, bytes: u64) -> Result<(), Refusal> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let others = self.reserves.iter().filter(|(reserve, _)| reserve.uid != uid);
        let kept = others.fold(0u64, |sum, (reserve, _)| sum.saturating_add(reserve.bytes));
        let free = capacity.saturating_sub(kept);
        if bytes > free { Err(Refusal::HeapFull { uid, asked: bytes, free, capacity }) } else { Ok(()) }
    }

    /// Books `bytes` bytes for `uid`.
    ///
    /// # Errors
    /// As [`HeapAccount::check`]; nothing is booked then.
    pub fn book(&mut self, uid: Uid, bytes: u64) -> Result<(), Refusal> {
        self.check(uid, bytes)?;
        self.book_held(uid, bytes);
        Ok(())
    }

    /// Books `bytes` bytes that `uid` holds already, even beyond the room.
    pub fn book_held(&mut self, uid: Uid, bytes: u64) {
        self.booked += bytes;
        if let Some((_, used)) = self.reserve_of(uid) {
            *used += bytes;
        }
    }

    /// Undoes [`HeapAccount::book`].
    pub fn unbook(&mut self, uid: Uid, bytes: u64) {
        self.booked -= bytes;
        if let Some((_, used)) = self.reserve_of(uid) {
            *used -= bytes;
        }
    }

    fn reserve_of(&mut self, uid: Uid) -> Option<&mut (HeapReserve, u64)> {
        self.reserves.iter_mut().find(|(reserve, _)| reserve.uid == uid)
    }

    /// Counts booked bytes as reserved by a client.
    pub fn mark_reserved(&mut self, bytes: u64) {
        self.counters.reserved_bytes += bytes;
    }

    /// Counts reserved bytes as drawn.
    pub fn draw(&mut self, bytes: u64) {
        self.counters.reserved_bytes -= bytes;
    }

    /// Counts booked buffers as allocated: `count` of them with `bytes` bytes together.
    pub fn allocated(&mut self, count: u64, bytes: u64) {
        let counters = &mut self.counters;
        counters.allocations += count;
        counters.buffers += count;
        counters.bytes += bytes;
        counters.bytes_watermark = counters.bytes_watermark.max(counters.bytes);
    }

    /// Counts a buffer of `uid` as released: it is no longer booked, and counts as a deferred free
    /// until it is retired.
    pub fn released(&mut self, uid: Uid, bytes: u64) {
        self.unbook(uid, bytes);
        self.counters.frees += 1;
        self.counters.deferred_bytes += bytes;
    }

    /// Counts deferred frees as freed: `count` of them with `bytes` bytes together.
    pub fn retired(&mut self, count: u64, bytes: u64) {
        self.counters.buffers -= count;
        self.counters.bytes -= bytes;
        self.counters.deferred_bytes -= bytes;
    }

    /// Counts a request that failed.
    pub fn count_failure(&mut self, cause: FailureCause) {
        self.counters.failures[cause as usize] += 1;
    }
}
