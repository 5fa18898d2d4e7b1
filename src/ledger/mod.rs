// SPDX-License-Identifier: Apache-2.0
//! Floor 2: the ledger: who holds what, and what is still free. Pure book-keeping: no system calls, no locks, no
//! memory of buffers. Every operation is O(1) in the number of buffers.
//!
//! # Life of an entry
//! [`Ledger::reserve`] checks heap room and quota and books both before any memory is touched;
//! [`Ledger::commit`] turns the reservation into live buffers; [`Ledger::cancel`] undoes it;
//! [`Ledger::set_aside`] books buffers that a client wants to find ready later, and [`Ledger::reserve_drawing`] turns
//! what was set aside into a reservation, without booking it twice; [`Ledger::give_up`] undoes the rest.
//! [`Ledger::release`] takes a buffer off its owner's account; [`Ledger::retire`] takes it off the heap's, once its
//! memory is truly free. As in ION, the heap's counters include what was released and is not yet retired.
//!
//! The owner of the ledger serialises access; whatever it reads together is from one instant.

mod account;
mod heap_account;
#[cfg(test)]
mod tests;

pub use account::{Limits, Usage};
pub use heap_account::{FailureCause, HeapCounters};

use crate::units::{BackedBytes, BufferId, Label, Uid};
use account::Accounts;
use heap_account::HeapAccount;
use std::collections::HashMap;
use std::time::Duration;

/// Position of a heap in the list the ledger was made with.
pub type HeapIndex = usize;

/// What a client asks to be booked: `count` buffers of `bytes` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whom to charge.
    pub uid: Uid,
    /// Which heap to take from.
    pub heap: HeapIndex,
    /// How many buffers.
    pub count: usize,
    /// Bytes of each.
    pub bytes: BackedBytes,
}

impl Claim {
    /// All bytes; saturates, and no limit admits that.
    fn total(&self) -> u64 {
        let total = u128::from(self.bytes.get()) * self.count as u128;
        u64::try_from(total).unwrap_or(u64::MAX)
    }
}

/// A claim that was booked. It must come back in [`Ledger::commit`] or [`Ledger::cancel`].
#[derive(Debug)]
#[must_use = "a reservation that is dropped stays booked"]
pub struct Reservation(Claim);

/// Why a claim cannot be booked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client would hold too many bytes.
    #[error("quota of uid {uid}: {asked} bytes asked, {held} held, limit {limit}")]
    QuotaBytes {
        /// The client.
        uid: Uid,
        /// Bytes of the claim.
        asked: u64,
        /// Bytes it holds or has reserved.
        held: u64,
        /// Its limit.
        limit: u64,
    },
    /// The client would hold too many buffers.
    #[error("quota of uid {uid}: {asked} buffers asked, {held} held, limit {limit}")]
    QuotaBuffers {
        /// The client.
        uid: Uid,
        /// Buffers of the claim.
        asked: u64,
        /// Buffers it holds or has reserved.
        held: u64,
        /// Its limit.
        limit: u64,
    },
    /// The service cannot hold more buffers: each takes one of its descriptors.
    #[error("{asked} buffers asked, {held} of {limit} that the service can hold are in use")]
    ServiceFull {
        /// Buffers of the claim.
        asked: u64,
        /// Buffers of all clients.
        held: u64,
        /// Most that the service can hold.
        limit: u64,
    },
    /// The client has too many reservations of buffers to be held ready.
    #[error("uid {uid} has {held} reservations, limit {limit}")]
    QuotaReservations {
        /// The client.
        uid: Uid,
        /// How many it has.
        held: usize,
        /// Its limit.
        limit: usize,
    },
    /// Too much memory would be held ready for clients.
    #[error("{asked} bytes to be held ready asked, {held} of {limit} are")]
    ReservedFull {
        /// Bytes of the claim.
        asked: u64,
        /// Bytes set aside of all heaps.
        held: u64,
        /// Most that can be.
        limit: u64,
    },
    /// The heap has no room for the client.
    #[error("{asked} bytes asked, {free} of {capacity} free for uid {uid}")]
    HeapFull {
        /// The client.
        uid: Uid,
        /// Bytes of the claim.
        asked: u64,
        /// Bytes free for this client: others' reserves are not.
        free: u64,
        /// Bytes of the heap.
        capacity: u64,
    },
}

impl Refusal {
    /// Whether the client's own quota is the reason.
    pub fn is_quota(&self) -> bool {
        matches!(self, Self::QuotaBytes { .. } | Self::QuotaBuffers { .. } | Self::QuotaReservations { .. })
    }
}

/// A live buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its identity.
    pub id: BufferId,
    /// Where it came from.
    pub heap: HeapIndex,
    /// Its size.
    pub bytes: BackedBytes,
    /// Who is charged.
    pub uid: Uid,
    /// The process that allocated it; for people.
    pub pid: i32,
    /// Its label.
    pub label: Label,
    /// Inode number of its file.
    pub inode: u64,
    /// Time since boot when it was allocated.
    pub created: Duration,
}

/// The books.
#[derive(Debug)]
pub struct Ledger {
    heaps: Vec<HeapAccount>,
    accounts: Accounts,
    buffers: HashMap<BufferId, Record>,
    max_buffers: u64,
    booked_buffers: u64,
    max_reserved_bytes: u64,
}

impl Ledger {
    /// Books for heaps with these capacities (`None`: no limit of its own), under `limits`, for at most
    /// `max_buffers` buffers in all.
    pub fn new(capacities: impl IntoIterator<Item = Option<u64>>, limits: Limits, max_buffers: u64) -> Self {
        let heaps: Vec<_> = capacities.into_iter().map(HeapAccount::new).collect();
        let accounts = Accounts::new(limits, heaps.len());
        let max_reserved_bytes = u64::MAX;
        Self { heaps, accounts, buffers: HashMap::new(), max_buffers, booked_buffers: 0, max_reserved_bytes }
    }

    /// Lets at most `bytes` bytes of all heaps be set aside at once: that memory is made before anyone uses it.
    #[must_use]
    pub fn with_max_reserved(self, bytes: u64) -> Self {
        Self { max_reserved_bytes: bytes, ..self }
    }

    /// Books `claim`.
    ///
    /// # Errors
    /// The first limit it meets, heap before quota; nothing is booked then.
    pub fn reserve(&mut self, claim: Claim) -> Result<Reservation, Refusal> {
        self.reserve_drawing(claim, 0)
    }

    /// Whether `claim` could be booked now.
    ///
    /// # Errors
    /// The first limit it would meet.
    pub fn check(&self, claim: &Claim) -> Result<(), Refusal> {
        self.check_with(claim, 0, 0)
    }

    /// Whether `claim` could be booked if the heap's deferred frees were worked off, as they are before anyone is
    /// refused.
    ///
    /// # Errors
    /// As [`Ledger::reserve`].
    pub fn check_drained(&self, claim: &Claim) -> Result<(), Refusal> {
        let counters = self.heaps[claim.heap].counters;
        self.check_with(claim, counters.deferred_bytes, counters.deferred_buffers())
    }

    fn check_with(&self, claim: &Claim, freeable: u64, freeable_buffers: u64) -> Result<(), Refusal> {
        let (asked, uid) = (claim.total(), claim.uid);
        if let (Some(free), Some(capacity)) =
            (self.free_with(claim.heap, uid, freeable), self.heaps[claim.heap].capacity)
            && asked > free
        {
            return Err(Refusal::HeapFull { uid, asked, free, capacity });
        }
        let (buffers, held) = (claim.count as u64, self.booked_buffers - freeable_buffers);
        let limit = self.max_buffers;
        if buffers > limit.saturating_sub(held) {
            return Err(Refusal::ServiceFull { asked: buffers, held, limit });
        }
        self.accounts.check(uid, asked, buffers)
    }

    /// Books `claim` for buffers that its uid wants to find ready later.
    ///
    /// # Errors
    /// As [`Ledger::reserve`]; if too much would be set aside in all.
    pub fn set_aside(&mut self, claim: Claim) -> Result<(), Refusal> {
        let held: u64 = self.heaps.iter().map(|heap| heap.counters.reserved_bytes).sum();
        let (asked, limit) = (claim.total(), self.max_reserved_bytes);
        if asked > limit.saturating_sub(held) {
            return Err(Refusal::ReservedFull { asked, held, limit });
        }
        self.check(&claim)?;
        self.book(&claim);
        self.mark_set_aside(&claim);
        Ok(())
    }

    /// Books `claim`, of which `drawn` buffers were set aside before: they are not charged again.
    ///
    /// # Errors
    /// As [`Ledger::reserve`], for the others; all stay set aside then.
    pub fn reserve_drawing(&mut self, claim: Claim, drawn: usize) -> Result<Reservation, Refusal> {
        debug_assert!(drawn <= claim.count, "no more is drawn than asked for");
        if drawn < claim.count {
            let rest = Claim { count: claim.count - drawn, ..claim };
            self.check(&rest)?;
            self.book(&rest);
        }
        self.unmark_set_aside(&Claim { count: drawn, ..claim });
        Ok(Reservation(claim))
    }

    /// Undoes a reservation of which `drawn` buffers were drawn from what was set aside: they are set aside again.
    pub fn cancel_drawing(&mut self, reservation: Reservation, drawn: usize) {
        let claim = reservation.0;
        self.mark_set_aside(&Claim { count: drawn, ..claim });
        self.unbook(&Claim { count: claim.count - drawn, ..claim });
    }

    /// Gives up what was set aside for `claim` and not drawn.
    pub fn give_up(&mut self, claim: Claim) {
        self.unmark_set_aside(&claim);
        self.unbook(&claim);
    }

    fn book(&mut self, claim: &Claim) {
        self.booked_buffers += claim.count as u64;
        self.heaps[claim.heap].booked += claim.total();
        self.accounts.book(claim.uid, claim.heap, claim.total(), claim.count as u64);
    }

    fn unbook(&mut self, claim: &Claim) {
        self.booked_buffers -= claim.count as u64;
        self.heaps[claim.heap].booked -= claim.total();
        self.accounts.unbook(claim.uid, claim.heap, claim.total(), claim.count as u64);
    }

    fn mark_set_aside(&mut self, claim: &Claim) {
        self.heaps[claim.heap].counters.reserved_bytes += claim.total();
        self.accounts.set_aside(claim.uid, claim.total(), claim.count as u64);
    }

    fn unmark_set_aside(&mut self, claim: &Claim) {
        self.heaps[claim.heap].counters.reserved_bytes -= claim.total();
        self.accounts.draw(claim.uid, claim.total(), claim.count as u64);
    }

    /// Bytes of a heap that `uid` could still take, others' unused reserves left alone; `None` if the heap has no
    /// limit of its own.
    pub fn free(&self, heap: HeapIndex, uid: Uid) -> Option<u64> {
        self.free_with(heap, uid, 0)
    }

    /// As [`Ledger::free`], if the heap's deferred frees were worked off.
    pub fn free_drained(&self, heap: HeapIndex, uid: Uid) -> Option<u64> {
        self.free_with(heap, uid, self.heaps[heap].counters.deferred_bytes)
    }

    fn free_with(&self, heap: HeapIndex, uid: Uid, freeable: u64) -> Option<u64> {
        let room = self.unbooked(heap)? + freeable;
        Some(room.saturating_sub(self.accounts.reserved_for_others(heap, uid)))
    }

    /// Bytes and buffers that `uid`'s quota still admits; `None` for no limit.
    pub fn quota_left(&self, uid: Uid) -> (Option<u64>, Option<u64>) {
        self.accounts.left(uid)
    }

    /// Undoes a reservation.
    pub fn cancel(&mut self, reservation: Reservation) {
        self.unbook(&reservation.0);
    }

    /// Turns a reservation into live buffers: exactly `count` records of the claim's heap, size and uid.
    pub fn commit(&mut self, reservation: Reservation, records: Vec<Record>) {
        let claim = reservation.0;
        debug_assert_eq!(records.len(), claim.count, "one record for each reserved buffer");
        self.heaps[claim.heap].allocated(claim.count as u64, claim.total());
        self.accounts.allocated(claim.uid);
        for record in records {
            debug_assert_eq!((record.heap, record.bytes, record.uid), (claim.heap, claim.bytes, claim.uid));
            self.buffers.insert(record.id, record);
        }
    }

    /// Takes a live buffer off its owner's account and returns what was known of it; `None` if it was released
    /// before. The heap still counts it, until it is retired.
    pub fn release(&mut self, id: BufferId) -> Option<Record> {
        let record = self.buffers.remove(&id)?;
        let bytes = record.bytes.get();
        self.heaps[record.heap].released(bytes);
        self.accounts.unbook(record.uid, record.heap, bytes, 1);
        Some(record)
    }

    /// Takes released buffers off the heap's account: `buffers` of them with `bytes` bytes together.
    pub fn retire(&mut self, heap: HeapIndex, buffers: u64, bytes: u64) {
        self.booked_buffers -= buffers;
        self.heaps[heap].retired(buffers, bytes);
    }

    /// Bytes of a heap that nobody has booked; `None` if it has no limit of its own.
    pub fn unbooked(&self, heap: HeapIndex) -> Option<u64> {
        let account = &self.heaps[heap];
        Some(account.capacity?.saturating_sub(account.booked))
    }

    /// Counts a request that failed at `heap`.
    pub fn count_failure(&mut self, heap: HeapIndex, cause: FailureCause) {
        self.heaps[heap].count_failure(cause);
    }

    /// A live buffer.
    pub fn buffer(&self, id: BufferId) -> Option<&Record> {
        self.buffers.get(&id)
    }

    /// All live buffers, in no order.
    pub fn buffers(&self) -> impl Iterator<Item = &Record> {
        self.buffers.values()
    }

    /// Counters of a heap.
    pub fn heap(&self, heap: HeapIndex) -> HeapCounters {
        self.heaps[heap].counters
    }

    /// What one uid holds.
    pub fn usage(&self, uid: Uid) -> Usage {
        self.accounts.usage(uid)
    }

    /// What every uid that was seen holds, in no order.
    pub fn usages(&self) -> impl Iterator<Item = Usage> {
        self.accounts.usages()
    }

    /// Whether the policy makes `uid` privileged.
    pub fn is_privileged(&self, uid: Uid) -> bool {
        self.accounts.is_privileged(uid)
    }
}
