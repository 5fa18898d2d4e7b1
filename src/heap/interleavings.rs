// SPDX-License-Identifier: Apache-2.0
//! The pool under a model checker: every order in which releases, the worker, callers and the
//! shrinker can take its lock. `cargo xtask test --only loom` runs these tests; they need the
//! feature `loom`.

use super::pool::{Pool, Poolable, Released, Wanted, discard};
use crate::ledger::HeapAccount;
use crate::pool::{PoolLimits, Pooled, TrustDomain};
use crate::source::Unfit;
use crate::units::{BackedBytes, RequestedBytes, Uid};
use loom::sync::Arc;
use std::io;
use std::sync::Arc as Memory;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BYTES: u64 = 64 << 10;
const UID: Uid = Uid(1);
const OWNER: TrustDomain = TrustDomain::Uid(UID);

/// Memory that is dirty until it is cleaned. Its reference count shows whether it has a holder.
#[derive(Debug, Clone)]
struct Cell(Memory<AtomicBool>);

/// The worker's reference to it. After it is detached, it has no effect.
struct CellWipe {
    dirty: Memory<AtomicBool>,
    is_detached: AtomicBool,
}

impl CellWipe {
    fn work(&self) -> io::Result<bool> {
        if !self.is_detached.load(Ordering::Relaxed) {
            self.dirty.store(false, Ordering::Relaxed);
        }
        Ok(!self.is_detached.load(Ordering::Relaxed))
    }
}

impl Poolable for Cell {
    type Wipe = CellWipe;

    fn worth_keeping(&self) -> Result<(), Unfit> {
        Ok(())
    }

    fn wipe(&self) -> io::Result<Memory<CellWipe>> {
        let dirty = Memory::clone(&self.0);
        Ok(Memory::new(CellWipe { dirty, is_detached: AtomicBool::new(false) }))
    }

    fn finish(&self, _: &CellWipe) -> io::Result<()> {
        self.0.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self, wipe: &CellWipe) {
        wipe.is_detached.store(true, Ordering::Relaxed);
    }
}

fn size() -> BackedBytes {
    RequestedBytes(i64::try_from(BYTES).expect("small")).round_up(1).expect("valid")
}

fn pool(entries: u64) -> Arc<Pool<Cell>> {
    let limits = PoolLimits { bytes: entries * BYTES, entries: usize::try_from(entries).expect("small") };
    Arc::new(Pool::new(HeapAccount::new(None, Vec::new()), Some(limits)))
}

fn cells<const N: usize>() -> [Cell; N] {
    std::array::from_fn(|_| Cell(Memory::new(AtomicBool::new(true))))
}

/// Allocates and releases a cell in the heap's account.
fn released(pool: &Pool<Cell>, cell: &Cell) -> Released<Cell> {
    pool.account().book(UID, BYTES).expect("no limit");
    pool.account().allocated(1, BYTES);
    let Ok(released) = pool.prepare(cell.clone(), size(), OWNER) else { panic!("worth keeping") };
    released
}

fn release(pool: &Pool<Cell>, cell: &Cell) {
    let released = released(pool, cell);
    discard(pool.release(UID, released));
}

/// Makes one step of the worker.
fn work(pool: &Pool<Cell>) {
    if let Some(work) = pool.next_work() {
        pool.worked(&work, &work.wipe.work(), Duration::ZERO);
    }
}

/// Takes one buffer as a request does, cleaned.
fn take(pool: &Pool<Cell>) -> Option<Cell> {
    let taken = pool.take(&Wanted { bytes: size(), count: 1, domain: &OWNER, unzeroed: false });
    let cleaned = taken.released.into_iter().map(|released| pool.clean(released).expect("cleaned"));
    taken.clean.into_iter().chain(cleaned).next().map(Pooled::into_memory)
}

/// Checks the state after any order: each cell of the pool is in it once and can be taken clean,
/// and the counters agree.
fn settle(pool: &Pool<Cell>, cells: &[Cell], outside: usize) {
    let mut found = Vec::new();
    while let Some(cell) = take(pool) {
        assert!(!cell.0.load(Ordering::Relaxed), "dirty memory was handed out");
        assert!(!found.iter().any(|other: &Cell| Memory::ptr_eq(&other.0, &cell.0)), "it was there twice");
        found.push(cell);
    }
    assert!(found.len() + outside <= cells.len());
    let (counters, pooled) = pool.counters();
    assert_eq!((counters.buffers, counters.bytes, counters.deferred_bytes), (0, 0, 0));
    assert_eq!(pooled.pooled_bytes, 0);
    drop(found);
    let held = cells.iter().filter(|cell| Memory::strong_count(&cell.0) > 1).count();
    assert_eq!(held, outside, "memory was lost");
}

/// Checks every order with at most three preemptions, where practically all mistakes are. All
/// orders of four threads would take hours.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scenario);
}

#[test]
fn two_releases_the_worker_and_a_shrink_lose_nothing() {
    model(|| {
        let (pool, cells) = (pool(4), cells::<2>());
        let releases = cells.clone().map(|cell| {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || release(&pool, &cell))
        });
        let worker = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || work(&pool))
        };
        pool.shrink(BYTES);
        releases.into_iter().for_each(|thread| thread.join().expect("no panic"));
        worker.join().expect("no panic");
        settle(&pool, &cells, 0);
    });
}

#[test]
fn the_worker_and_two_callers_never_share_memory() {
    model(|| {
        let (pool, cells) = (pool(4), cells::<2>());
        for cell in &cells {
            release(&pool, cell);
        }
        let worker = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || work(&pool))
        };
        let caller = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || take(&pool))
        };
        let own = take(&pool);
        let other = caller.join().expect("no panic");
        worker.join().expect("no panic");
        // Callers find all pooled memory, also memory that the worker is cleaning.
        let (own, other) = (own.expect("there are two"), other.expect("there are two"));
        assert!(!Memory::ptr_eq(&own.0, &other.0), "one buffer for two");
        assert!(
            ![&own, &other].iter().any(|cell| cell.0.load(Ordering::Relaxed)),
            "dirty memory was handed out"
        );
        settle(&pool, &cells, 2);
    });
}

#[test]
fn the_worker_no_longer_writes_to_memory_that_the_pool_dropped() {
    model(|| {
        let (pool, cells) = (pool(1), cells::<1>());
        release(&pool, &cells[0]);
        let worker = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || {
                let work = pool.next_work();
                loom::thread::yield_now();
                if let Some(work) = work {
                    pool.worked(&work, &work.wipe.work(), Duration::ZERO);
                }
            })
        };
        assert_eq!(pool.shrink(0), BYTES);
        // The caller uses it from now on.
        cells[0].0.store(true, Ordering::Relaxed);
        worker.join().expect("no panic");
        assert!(cells[0].0.load(Ordering::Relaxed), "written to after it was dropped");
        settle(&pool, &cells, 0);
    });
}

#[test]
fn a_full_pool_evicts_and_loses_nothing() {
    model(|| {
        let (pool, cells) = (pool(1), cells::<2>());
        let [first, second] = cells.clone();
        let other = {
            let pool = Arc::clone(&pool);
            loom::thread::spawn(move || {
                release(&pool, &second);
                work(&pool);
            })
        };
        release(&pool, &first);
        drop(first);
        other.join().expect("no panic");
        settle(&pool, &cells, 0);
    });
}
