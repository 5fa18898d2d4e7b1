// SPDX-License-Identifier: Apache-2.0
//! The state that a pool's lock guards.

use super::{Leftover, PoolCounters, Poolable, Unclean};
use crate::ledger::HeapAccount;
use crate::pool::{Contents, Demand, DemandLimits, Dirty, PoolLimits, Pooled, TrustDomain, UntouchedSizes};
use crate::source::Unfit;
use crate::units::BackedBytes;
use std::time::Duration;

/// Most sizes that are preallocated.
const PREALLOCATED_SIZES: usize = 32;

/// The memory of a pool, and its account.
pub(super) struct Inner<M: Poolable> {
    pub(super) account: HeapAccount,
    pub(super) contents: Contents<M, Unclean<M>>,
    pub(super) demand: Demand,
    pub(super) untouched: UntouchedSizes,
    pub(super) counters: PoolCounters,
}

impl<M: Poolable> Inner<M> {
    /// Returns an empty pool for `account`.
    pub(super) fn new(account: HeapAccount, limits: Option<PoolLimits>) -> Self {
        let (contents, demand) = empty(limits);
        let (untouched, counters) = (UntouchedSizes::default(), PoolCounters::default());
        Self { account, contents, demand, untouched, counters }
    }

    /// Empties the pool and sets other limits. Returns the memory that was in it.
    pub(super) fn begin_again(&mut self, limits: Option<PoolLimits>) -> Leftover<M> {
        let evicted = self.contents.shrink(0);
        self.retire(&evicted.released);
        (self.contents, self.demand) = empty(limits);
        evicted
    }

    /// Returns the size of the preallocated buffer with the highest demand that has room.
    pub(super) fn wanted(&self, now: Duration) -> Option<BackedBytes> {
        let targets = self.demand.targets(now).into_iter();
        let sizes = targets
            .filter(|target| self.contents.free.fresh(target.bytes.get()) < target.buffers)
            .map(|target| target.bytes);
        let unbooked = self.account.unbooked().unwrap_or(u64::MAX);
        let has_room = |bytes: u64| {
            self.contents.has_room(bytes)
                && self.contents.bytes().checked_add(bytes).is_some_and(|all| all <= unbooked)
        };
        sizes.into_iter().find(|bytes| has_room(bytes.get()))
    }

    /// Decides whether a released buffer is pooled that has at least
    /// [`MIN_UNTOUCHED`](super::MIN_UNTOUCHED) bytes. Records whether a new one came back touched.
    ///
    /// # Errors
    /// The reason of `fit`; `Untouched` if the domain does not touch buffers of this size.
    pub(super) fn judge(
        &mut self,
        (domain, bytes): (&TrustDomain, BackedBytes),
        is_new: bool,
        fit: Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        let bytes = bytes.get();
        match fit {
            Ok(()) if is_new => self.untouched.came_back(domain, bytes, true),
            Err(Unfit::Untouched) if is_new => self.untouched.came_back(domain, bytes, false),
            Ok(()) if self.untouched.contains(domain, bytes) => return Err(Unfit::Untouched),
            _ => {}
        }
        fit
    }

    /// Counts memory that left the released list as freed.
    pub(super) fn retire(&mut self, released: &[Pooled<Unclean<M>, Dirty>]) {
        let bytes = released.iter().map(|memory| memory.bytes().get()).sum();
        self.account.retired(released.len() as u64, bytes);
    }

    /// Evicts the memory for which the booked bytes leave no room.
    pub(super) fn fit(&mut self) -> Leftover<M> {
        let Some(room) = self.account.unbooked() else { return Leftover::default() };
        let excess = self.contents.bytes().saturating_sub(room);
        if excess == 0 {
            return Leftover::default();
        }
        let evicted = self.contents.shrink(excess);
        self.retire(&evicted.released);
        evicted
    }
}

/// Returns the empty contents and demand of a pool with these limits.
fn empty<M: Poolable>(limits: Option<PoolLimits>) -> (Contents<M, Unclean<M>>, Demand) {
    let limits = limits.unwrap_or(PoolLimits { bytes: 0, entries: 0 });
    let demand =
        DemandLimits { sizes: PREALLOCATED_SIZES, bytes: limits.bytes / 2, buffers: limits.entries / 2 };
    (Contents::new(limits), Demand::new(demand))
}
