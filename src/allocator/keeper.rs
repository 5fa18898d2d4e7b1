// SPDX-License-Identifier: Apache-2.0
//! Looking after memory between two clients: one thread of lowest priority that scrubs what was released, one buffer
//! a step, makes memory ahead of demand (`refill.rs`), and gives spares back when they lie idle or the machine runs
//! short. It sleeps while there is nothing to do.

use super::Allocator;
use super::pressure::{Availability, PressureLevel, PressureSources};
use crate::heap::{Heap, IDLE, Released, Retired, Stock};
use crate::ledger::HeapIndex;
use crate::sys::clock::since_boot;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often idle spares are looked for, while there are any.
const LOOK: Duration = Duration::from_secs(10);

/// How the keeper thread is reached.
pub(super) struct Keeper {
    wake: EventFd,
    stopped: AtomicBool,
    /// Heap whose turn it is: each has its share of the thread, whatever its id.
    turn: AtomicUsize,
}

impl Keeper {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { wake, stopped: AtomicBool::new(false), turn: AtomicUsize::new(0) })
    }

    /// Something was released.
    pub(super) fn wake(&self) {
        // A full counter is readable already.
        let _ = self.wake.write(1);
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Sleeps until something was released, memory becomes scarce or the time is over; for ever without one. Says how
    /// scarce memory has become.
    fn wait(&self, sources: &mut PressureSources, pause: Option<Duration>) -> PressureLevel {
        // Rounded up: a pause that ends too early would be followed by another.
        let milliseconds = pause.map(|pause| pause.as_millis() + u128::from(!pause.is_zero()));
        let timeout = milliseconds.map_or(PollTimeout::NONE, |milliseconds| {
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(sources.poll_fds());
        // An interrupted wait is followed by another.
        let _ = poll(&mut fds, timeout);
        let seen: Vec<_> = fds[1..].iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        let _ = self.wake.read();
        sources.read(&seen)
    }
}

impl Allocator {
    /// Takes a released buffer's memory: to the deferred frees of its heap, or back to the kernel. No lock is held.
    pub(super) fn let_go(&self, index: HeapIndex, released: Released) {
        let bytes = released.bytes();
        // What is kept now would be missed by those who wait for memory.
        let is_critical = self.pressure() == PressureLevel::Critical;
        let refused = match self.heaps[index].stock() {
            Some(stock) if Stock::keeps(bytes) && is_critical => {
                stock.count_discarded();
                Some(released)
            }
            Some(stock) if Stock::keeps(bytes) => stock.defer(released).err(),
            _ => Some(released),
        };
        match refused {
            Some(released) => {
                drop(released);
                self.retire(index, Retired { buffers: 1, bytes: bytes.get() });
            }
            None => self.keeper.wake(),
        }
    }

    pub(super) fn retire(&self, index: HeapIndex, retired: Retired) {
        self.books().ledger.retire(index, retired.buffers, retired.bytes);
    }

    /// Works off a heap's deferred frees at once, as ION does when an allocation fails.
    pub(super) fn drain(&self, index: HeapIndex) {
        if let Some(stock) = self.heaps[index].stock() {
            let retired = stock.drain(0, since_boot());
            self.retire(index, retired);
        }
    }

    /// Gives a heap's spare memory back to the kernel: at least `bytes` bytes if there are that many, all for 0.
    /// Returns the bytes given back.
    pub(super) fn shrink(&self, index: HeapIndex, bytes: u64) -> u64 {
        let Some(stock) = self.heaps[index].stock() else { return 0 };
        let (retired, freed) = stock.shrink(bytes);
        self.retire(index, retired);
        freed
    }

    /// Gives all spare memory back to the kernel.
    pub(super) fn shrink_all(&self) {
        for index in 0..self.heaps.len() {
            self.shrink(index, 0);
        }
    }

    /// Keeps what lies on a heap's shelf within what its budget leaves.
    pub(super) fn fit_shelf(&self, index: HeapIndex) {
        // Without a budget there is nothing to fit, and no reason to lock the books for it.
        let Some(stock) = self.heaps[index].stock().filter(|_| self.heaps[index].capacity().is_some()) else {
            return;
        };
        // A statement of its own, so that the lock is gone when memory is given back.
        let room = self.books().ledger.unbooked(index);
        if let Some(room) = room {
            stock.fit(room);
        }
    }

    pub(super) fn stocked(&self) -> impl Iterator<Item = (HeapIndex, &Heap)> {
        self.heaps.iter().enumerate().filter(|(_, heap)| heap.stock().is_some())
    }

    /// Stocked heaps whose memory helps others when it is given back; what was set aside stays so, and helps nobody.
    pub(super) fn giving(&self) -> impl Iterator<Item = (HeapIndex, &Heap)> {
        self.stocked().filter(|(_, heap)| heap.fragmentation().is_none())
    }

    /// Scrubs one released buffer, of another heap than the last if others wait; false if none waits.
    pub(super) fn scrub_one(&self) -> bool {
        let heaps = self.heaps.len();
        let first = self.keeper.turn.load(Ordering::Relaxed);
        for index in (first..first + heaps).map(|turn| turn % heaps) {
            let Some(retired) = self.heaps[index].stock().and_then(|stock| stock.scrub_one(since_boot()))
            else {
                continue;
            };
            self.keeper.turn.store(index + 1, Ordering::Relaxed);
            self.retire(index, retired);
            self.fit_shelf(index);
            return true;
        }
        false
    }

    /// Gives idle spares back. Returns whether any are left.
    fn expire(&self) -> bool {
        let deadline = since_boot().saturating_sub(IDLE);
        let mut left = false;
        for stock in self.stocked().filter_map(|(_, heap)| heap.stock()) {
            left |= stock.expire(deadline);
        }
        left
    }

    /// One step of the keeper. Returns how long there is nothing to do unless something happens; `None` for ever.
    pub(super) fn keep_step(&self) -> Option<Duration> {
        let calm = self.pressure.settle(since_boot());
        let has_scrubbed = self.scrub_one();
        // Both have their turn: clients that let go all the time keep nobody from what was promised.
        if self.refill_one() || has_scrubbed {
            return Some(Duration::ZERO);
        }
        let look = self.expire().then_some(LOOK);
        look.into_iter().chain(self.refill_pause()).chain(calm).min()
    }

    /// Whether there is anything that could be given back when memory is scarce.
    fn holds_spares(&self) -> bool {
        let mut stocks = self.giving().filter_map(|(_, heap)| heap.stock());
        stocks.any(|stock| stock.counters().pooled_bytes > 0)
    }

    /// Starts the keeper thread. It ends when the allocator is dropped.
    pub(super) fn start_keeper(
        self: &Arc<Self>,
        sources: PressureSources,
        availability: Availability,
    ) -> io::Result<()> {
        let (keeper, allocator) = (Arc::clone(&self.keeper), Arc::downgrade(self));
        std::thread::Builder::new().name("anion-keeper".to_owned()).spawn(move || {
            if let Err(error) = crate::sys::thread::lower_priority() {
                log::warn!("the keeper thread keeps its priority: {error}");
            }
            keep(&keeper, &allocator, sources, availability);
        })?;
        Ok(())
    }
}

fn keep(
    keeper: &Keeper,
    allocator: &Weak<Allocator>,
    mut sources: PressureSources,
    mut availability: Availability,
) {
    while !keeper.stopped.load(Ordering::Relaxed) {
        // Held for one step alone, so that the allocator can go in between.
        let Some(strong) = allocator.upgrade() else { return };
        let mut pause = strong.keep_step();
        if strong.holds_spares() {
            let (level, look) = availability.look(since_boot());
            strong.press(level);
            pause = Some(pause.map_or(look, |pause| pause.min(look)));
        }
        drop(strong);
        let level = keeper.wait(&mut sources, pause);
        if let Some(strong) = allocator.upgrade() {
            strong.press(level);
        }
    }
}
