// SPDX-License-Identifier: Apache-2.0
//! Taking back what clients have let go of: from close events, from leases, and before anyone is refused.

use super::{Allocator, Caller};
use crate::pool::Spare;
use crate::source::ReleaseMechanism;
use crate::units::BufferId;
use std::sync::{Arc, Weak};
use std::time::Instant;

impl Allocator {
    /// Works off queued close events. Any thread may; they share the queue. Returns the bytes taken back.
    pub(super) fn work_off_events(&self) -> u64 {
        let now = Instant::now();
        let closes = match self.liveness.watcher.closes() {
            Ok(closes) => closes,
            Err(error) => {
                log::error!("reading close events: {error}");
                return 0;
            }
        };
        if closes.overflowed {
            log::warn!("the inotify queue overflowed; asking every buffer's lease instead");
            self.liveness.overflowed(now);
        }
        if closes.watches.is_empty() {
            return 0;
        }
        let named: Vec<_> = {
            let books = self.books();
            closes.watches.iter().filter_map(|watch| books.watched(*watch)).collect()
        };
        let mut freed = 0;
        for id in named {
            match self.settle(id) {
                Settled::Released(bytes) => freed += bytes,
                Settled::Held => self.liveness.suspect(id, now),
                Settled::Gone => {}
            }
        }
        freed
    }

    /// Takes back whatever `caller` has already let go of. A client that closes a buffer and asks again at once must
    /// not be refused: the close event may still be on its way through another thread, the lease is not.
    pub(super) fn reclaim_from(&self, caller: &Caller) -> u64 {
        let freed = self.work_off_events();
        let own: Vec<_> = self.books().owned_by(caller.uid).collect();
        freed + self.settle_all(own)
    }

    fn settle_all(&self, ids: impl IntoIterator<Item = BufferId>) -> u64 {
        let released = |id| match self.settle(id) {
            Settled::Released(bytes) => bytes,
            Settled::Held | Settled::Gone => 0,
        };
        ids.into_iter().map(released).sum()
    }

    /// Releases a buffer if nobody holds it. The kernel is asked without any lock held.
    fn settle(&self, id: BufferId) -> Settled {
        let Some(live) = self.books().live(id).cloned() else {
            return Settled::Gone;
        };
        if ReleaseMechanism::of(live.stored.memory.backing()) == ReleaseMechanism::Token {
            return Settled::Held;
        }
        match live.stored.memory.is_idle() {
            Ok(true) => {}
            Ok(false) => return Settled::Held,
            Err(error) => {
                if let Some(before) = self.liveness.unanswered(Instant::now()) {
                    log::error!("asking whether buffer {id} is held: {error} ({before} more like it before)");
                }
                return Settled::Held;
            }
        }
        let Some((record, struck)) = self.books().strike(id) else {
            return Settled::Gone;
        };
        self.liveness.settled(id);
        drop(live);
        log::debug!("buffer {id} of uid {} released, {} bytes", record.uid, record.bytes.get());
        let is_reserved = struck.lender.is_some();
        self.let_go(record.heap, Spare::released(struck.stored, record.bytes, struck.domain));
        if is_reserved {
            self.keeper.wake();
        }
        Settled::Released(record.bytes.get())
    }

    /// Looks at everything that is due. Returns whether the service goes on.
    fn reap(&self) -> bool {
        self.work_off_events();
        let began = Instant::now();
        let due = self.liveness.due(began);
        let everything: Vec<_> = if due.everything {
            self.books().ledger.buffers().map(|record| record.id).collect()
        } else {
            Vec::new()
        };
        self.settle_all(due.buffers.into_iter().chain(everything));
        self.liveness.looked(began, Instant::now());
        !due.stopped
    }

    /// Starts the thread that takes buffers back. It ends when the allocator is dropped.
    pub(super) fn start_reaper(self: &Arc<Self>) -> std::io::Result<()> {
        let (liveness, allocator) = (Arc::clone(&self.liveness), Arc::downgrade(self));
        let step = move || Weak::upgrade(&allocator).is_some_and(|allocator| allocator.reap());
        std::thread::Builder::new().name("anion-reaper".to_owned()).spawn(move || {
            while step() {
                liveness.wait();
            }
        })?;
        Ok(())
    }
}

enum Settled {
    /// Nobody held it; its bytes are free.
    Released(u64),
    /// Somebody holds it.
    Held,
    /// It was released before.
    Gone,
}
