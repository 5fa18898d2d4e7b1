// SPDX-License-Identifier: Apache-2.0
//! Everything that must change together when a buffer comes or goes, under one lock.

use crate::heap::Stored;
use crate::ledger::{Ledger, Record, Reservation};
use crate::pool::TrustDomain;
use crate::sys::fd::Inode;
use crate::sys::inotify::Watch;
use crate::units::{BufferId, Uid};
use std::collections::{HashMap, HashSet};

/// The ledger, and the memory behind its entries.
pub(super) struct Books {
    pub(super) ledger: Ledger,
    live: HashMap<BufferId, Live>,
    by_watch: HashMap<Watch, BufferId>,
    by_inode: HashMap<Inode, BufferId>,
    by_owner: HashMap<Uid, HashSet<BufferId>>,
}

/// A live buffer's memory.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) stored: Stored,
    /// Who holds it, as far as reuse is concerned.
    pub(super) domain: TrustDomain,
}

impl Books {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            live: HashMap::new(),
            by_watch: HashMap::new(),
            by_inode: HashMap::new(),
            by_owner: HashMap::new(),
        }
    }

    /// Enters a whole batch.
    pub(super) fn enter(&mut self, reservation: Reservation, batch: Vec<(Record, Live)>) {
        let mut records = Vec::with_capacity(batch.len());
        for (record, live) in batch {
            if let Some(watch) = live.stored.watch {
                self.by_watch.insert(watch, record.id);
            }
            self.by_inode.insert(live.stored.memory.inode(), record.id);
            self.by_owner.entry(record.uid).or_default().insert(record.id);
            self.live.insert(record.id, live);
            records.push(record);
        }
        self.ledger.commit(reservation, records);
    }

    /// Strikes a buffer out. The memory is returned so that the caller drops it after the lock; `None` if the
    /// buffer was struck out before.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn strike(&mut self, id: BufferId) -> Option<(Record, Live)> {
        let record = self.ledger.release(id)?;
        let live = self.live.remove(&id)?;
        if let Some(watch) = live.stored.watch {
            self.by_watch.remove(&watch);
        }
        self.by_inode.remove(&live.stored.memory.inode());
        if let Some(ids) = self.by_owner.get_mut(&record.uid) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_owner.remove(&record.uid);
            }
        }
        Some((record, live))
    }

    pub(super) fn live(&self, id: BufferId) -> Option<&Live> {
        self.live.get(&id)
    }

    pub(super) fn owned_by(&self, uid: Uid) -> impl Iterator<Item = BufferId> {
        self.by_owner.get(&uid).into_iter().flatten().copied()
    }

    pub(super) fn watched(&self, watch: Watch) -> Option<BufferId> {
        self.by_watch.get(&watch).copied()
    }

    pub(super) fn with_inode(&self, inode: Inode) -> Option<BufferId> {
        self.by_inode.get(&inode).copied()
    }
}
