// SPDX-License-Identifier: Apache-2.0
//! Floor 2: the ledger: usage and limits of each uid, and the account of one heap. Pure: no
//! system calls, no locks, no memory of buffers. Every operation is O(1) in the number of buffers.
//!
//! [`Ledger`] has the accounts of all uids, for all heaps together. [`HeapAccount`] has the room of
//! one heap, the part of it that is reserved for each uid, and ION's counters. A request is booked
//! in both before any memory is made. Both count bytes until a client releases them. Released
//! memory that is not yet free is in the heap's counters, as in ION, and in no account.
//!
//! The owner of each value serialises access; all numbers that it reads together are of one
//! instant.

mod account;
mod heap_account;
#[cfg(test)]
mod tests;

pub use account::{Limits, Usage};
pub use heap_account::{FailureCause, HeapAccount, HeapCounters, HeapReserve};

use crate::units::{BackedBytes, Uid};
use account::{Accounts, Standing};

/// Position of a heap in the list of all heaps.
pub type HeapIndex = usize;

/// The buffers to book for a client: `count` buffers of `bytes` each, with their metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The uid to charge.
    pub uid: Uid,
    /// The heap that makes them.
    pub heap: HeapIndex,
    /// The number of buffers.
    pub count: usize,
    /// Bytes of each buffer, booked in the heap.
    pub bytes: BackedBytes,
    /// Bytes of the metadata file of each buffer, charged to the client and booked in no heap; 0
    /// without metadata.
    pub metadata: u64,
}

impl Claim {
    /// Returns all bytes to book in the heap. The result saturates at a value that exceeds every
    /// limit.
    pub fn total(&self) -> u64 {
        let total = u128::from(self.bytes.get()) * self.count as u128;
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    /// Returns all bytes to charge to the client: buffers and metadata; saturates.
    pub fn charged(&self) -> u64 {
        let each = u128::from(self.bytes.get()) + u128::from(self.metadata);
        u64::try_from(each * self.count as u128).unwrap_or(u64::MAX)
    }

    /// Returns the number of files that the service holds for it: metadata is in a file of its own.
    fn files(&self) -> u64 {
        let each = if self.metadata > 0 { 2 } else { 1 };
        self.count as u64 * each
    }

    /// Returns the same claim for `count` buffers.
    #[must_use]
    pub fn of(&self, count: usize) -> Self {
        Self { count, ..*self }
    }
}

/// Reason why a claim cannot be booked now.
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
    /// The service cannot hold more buffers: each uses one of its descriptors, or two with
    /// metadata. Some descriptors are kept for other uids.
    #[error("{asked} buffers asked, {held} of {limit} that the service can hold for this uid are in use")]
    ServiceFull {
        /// Buffers of the claim; a buffer with metadata counts twice.
        asked: u64,
        /// Buffers of all clients, counted in the same way.
        held: u64,
        /// Most buffers that the service can hold before it refuses more to this uid.
        limit: u64,
    },
    /// The client has too many reservations.
    #[error("uid {uid} has {held} reservations, limit {limit}")]
    QuotaReservations {
        /// The client.
        uid: Uid,
        /// Its number of reservations.
        held: usize,
        /// Its limit.
        limit: usize,
    },
    /// Too much memory would be reserved for clients.
    #[error("{asked} bytes asked to reserve, {held} of {limit} are reserved")]
    ReservedFull {
        /// Bytes of the claim.
        asked: u64,
        /// Reserved bytes of all heaps.
        held: u64,
        /// Most bytes that may be reserved.
        limit: u64,
    },
    /// The heap has no room for the client.
    #[error("{asked} bytes asked, {free} of {capacity} free for uid {uid}")]
    HeapFull {
        /// The client.
        uid: Uid,
        /// Bytes of the claim.
        asked: u64,
        /// Bytes free for this client, without the reserves of others.
        free: u64,
        /// Bytes of the heap.
        capacity: u64,
    },
}

impl Refusal {
    /// Returns whether the client's own quota is the reason.
    pub fn is_quota(&self) -> bool {
        matches!(self, Self::QuotaBytes { .. } | Self::QuotaBuffers { .. } | Self::QuotaReservations { .. })
    }
}

/// Divisor of the number of all files: the quotient is kept for each of two groups of uids.
const KEPT_FILES: u64 = 16;

/// The accounts of all uids, and the service's own limits.
#[derive(Debug)]
pub struct Ledger {
    accounts: Accounts,
    max_files: u64,
    booked_files: u64,
    max_reserved_bytes: u64,
    reserved_bytes: u64,
}

impl Ledger {
    /// Returns a ledger with `limits`, for at most `max_files` buffers in total; a buffer with
    /// metadata counts twice.
    pub fn new(limits: Limits, max_files: u64) -> Self {
        let accounts = Accounts::new(limits);
        Self { accounts, max_files, booked_files: 0, max_reserved_bytes: u64::MAX, reserved_bytes: 0 }
    }

    /// Limits the bytes of all heaps that clients may reserve at once: that memory is preallocated.
    #[must_use]
    pub fn with_max_reserved(self, bytes: u64) -> Self {
        Self { max_reserved_bytes: bytes, ..self }
    }

    /// Changes the limit of all buffers together, counted as for [`Ledger::new`]. Live buffers
    /// stay.
    pub fn set_max_files(&mut self, most: u64) {
        self.max_files = most;
    }

    /// Returns how many more files of buffers the service may hold.
    pub fn files_left(&self) -> u64 {
        self.max_files.saturating_sub(self.booked_files)
    }

    /// Changes the quotas and privileges of all uids. Their buffers stay, even if they exceed a new
    /// quota.
    pub fn set_limits(&mut self, limits: Limits) {
        self.accounts.set_limits(limits);
    }

    /// Returns whether `claim` could be booked now.
    ///
    /// # Errors
    /// The first limit that it would exceed.
    pub fn check(&self, claim: &Claim) -> Result<(), Refusal> {
        let (files, held) = (claim.files(), self.booked_files);
        let limit = self.max_files_for(claim.uid, claim.count as u64);
        if files > limit.saturating_sub(held) {
            return Err(Refusal::ServiceFull { asked: files, held, limit });
        }
        self.accounts.check(claim.uid, claim.charged(), claim.count as u64)
    }

    /// Returns whether `claim` could be booked if no uid held anything.
    ///
    /// # Errors
    /// The first limit that it alone would exceed.
    pub fn check_empty(&self, claim: &Claim) -> Result<(), Refusal> {
        let (files, limit) = (claim.files(), self.max_files_for(claim.uid, 0));
        if files > limit {
            return Err(Refusal::ServiceFull { asked: files, held: 0, limit });
        }
        self.accounts.check_empty(claim.uid, claim.charged(), claim.count as u64)
    }

    /// Returns how many files of buffers the service may hold once `uid` has `buffers` more. Some
    /// files are kept for uids that hold few, and some for uids that the policy favours.
    fn max_files_for(&self, uid: Uid, buffers: u64) -> u64 {
        let (all, kept) = (self.max_files, self.max_files / KEPT_FILES);
        match self.accounts.standing(uid, buffers) {
            Standing::Favoured => all,
            Standing::Few => all - kept,
            Standing::Many => all - 2 * kept,
        }
    }

    /// Books `claim`.
    ///
    /// # Errors
    /// As [`Ledger::check`]; nothing is booked then.
    pub fn book(&mut self, claim: &Claim) -> Result<(), Refusal> {
        self.check(claim)?;
        self.book_held(claim);
        Ok(())
    }

    /// Books buffers that clients hold already, even beyond the limits.
    pub fn book_held(&mut self, claim: &Claim) {
        self.booked_files += claim.files();
        self.accounts.book(claim.uid, claim.charged(), claim.count as u64);
    }

    /// Undoes [`Ledger::book`], or books a release.
    pub fn unbook(&mut self, claim: &Claim) {
        self.booked_files -= claim.files();
        self.accounts.unbook(claim.uid, claim.charged(), claim.count as u64);
    }

    /// Books `claim` for a reservation.
    ///
    /// # Errors
    /// As [`Ledger::book`]; also if all reservations together would exceed their limit.
    pub fn reserve(&mut self, claim: &Claim) -> Result<(), Refusal> {
        let (asked, held, limit) = (claim.total(), self.reserved_bytes, self.max_reserved_bytes);
        if asked > limit.saturating_sub(held) {
            return Err(Refusal::ReservedFull { asked, held, limit });
        }
        self.book(claim)?;
        self.mark_reserved(claim);
        Ok(())
    }

    /// Undoes [`Ledger::reserve`] for buffers that were not drawn.
    pub fn unreserve(&mut self, claim: &Claim) {
        self.draw(claim);
        self.unbook(claim);
    }

    /// Marks booked buffers as reserved, not held.
    pub fn mark_reserved(&mut self, claim: &Claim) {
        self.reserved_bytes += claim.total();
        self.accounts.mark_reserved(claim.uid, claim.total(), claim.count as u64);
    }

    /// Draws reserved buffers: they stay booked, and are held from now on.
    pub fn draw(&mut self, claim: &Claim) {
        self.reserved_bytes -= claim.total();
        self.accounts.draw(claim.uid, claim.total(), claim.count as u64);
    }

    /// Updates the peak of `uid` after buffers were allocated.
    pub fn allocated(&mut self, uid: Uid) {
        self.accounts.allocated(uid);
    }

    /// Returns the bytes that `uid`'s quota still permits (`None` for no limit), and whether the
    /// uid and the service could hold `buffers` more buffers.
    pub fn left(&self, uid: Uid, buffers: u64) -> (Option<u64>, bool) {
        let (bytes, of_quota) = self.accounts.left(uid);
        let of_service = self.max_files_for(uid, buffers).saturating_sub(self.booked_files);
        (bytes, of_quota.unwrap_or(u64::MAX).min(of_service) >= buffers)
    }

    /// Returns the usage of one uid.
    pub fn usage(&self, uid: Uid) -> Usage {
        self.accounts.usage(uid)
    }

    /// Returns the usage of every uid with an account, in no order.
    pub fn usages(&self) -> impl Iterator<Item = Usage> {
        self.accounts.usages()
    }

    /// Returns whether the policy makes `uid` privileged.
    pub fn is_privileged(&self, uid: Uid) -> bool {
        self.accounts.is_privileged(uid)
    }
}
