// SPDX-License-Identifier: Apache-2.0
//! The stock under a model checker: every order in which releases, the keeper's scrub, and whoever takes memory back
//! can meet at its lock. `cargo xtask test --only loom` runs these; they need the feature `loom`.

use super::stock::{Released, Retired, Stock, Stockable};
use crate::pool::{ShelfLimits, Spare, TrustDomain};
use crate::source::Unfit;
use crate::units::{BackedBytes, RequestedBytes, Uid};
use loom::sync::Arc;
use std::io;
use std::sync::Arc as Memory;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BYTES: u64 = 64 << 10;
const OWNER: TrustDomain = TrustDomain::Uid(Uid(1));

/// Memory that is dirty until it is scrubbed. Its references tell who has it.
#[derive(Debug, Clone)]
struct Cell(Memory<AtomicBool>);

impl Stockable for Cell {
    fn worth_keeping(&self) -> Result<(), Unfit> {
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn scrub(&self) -> io::Result<()> {
        self.0.store(false, Ordering::Relaxed);
        Ok(())
    }
}

fn size() -> BackedBytes {
    RequestedBytes(i64::try_from(BYTES).expect("small")).round_up(1).expect("valid")
}

fn released(cell: &Cell) -> Released<Cell> {
    Spare::released(cell.clone(), size(), OWNER)
}

fn stock(spares: u64) -> Arc<Stock<Cell>> {
    let limits = ShelfLimits { bytes: spares * BYTES, spares: usize::try_from(spares).expect("small") };
    Arc::new(Stock::new(limits))
}

fn cells<const N: usize>() -> [Cell; N] {
    std::array::from_fn(|_| Cell(Memory::new(AtomicBool::new(true))))
}

/// What one thread took off the books: what the stock retired, and what it did not take at all.
fn release(stock: &Stock<Cell>, cell: &Cell) -> Retired {
    match stock.defer(released(cell)) {
        Ok(()) => Retired::default(),
        Err(refused) => Retired { buffers: 1, bytes: refused.bytes().get() },
    }
}

fn sum(parts: impl IntoIterator<Item = Retired>) -> Retired {
    parts.into_iter().fold(Retired::default(), |sum, part| Retired {
        buffers: sum.buffers + part.buffers,
        bytes: sum.bytes + part.bytes,
    })
}

/// Whatever the order was: each cell was retired once, what lies on the shelf is clean, and nothing else is kept.
fn settle(stock: &Stock<Cell>, cells: &[Cell], retired: Retired) {
    let rest = stock.drain(0, Duration::ZERO);
    let all = sum([retired, rest]);
    assert_eq!(all, Retired { buffers: cells.len() as u64, bytes: cells.len() as u64 * BYTES });
    let kept: Vec<_> = cells.iter().filter(|cell| Memory::strong_count(&cell.0) > 1).collect();
    assert!(kept.iter().all(|cell| Memory::strong_count(&cell.0) == 2), "memory is in two places");
    let counters = stock.counters();
    assert_eq!(counters.pooled_bytes, kept.len() as u64 * BYTES);
    let taken = stock.take(size(), cells.len() + 1, &OWNER, Duration::ZERO).spares;
    assert_eq!(taken.len(), kept.len());
    assert!(taken.iter().all(|cell| !cell.0.load(Ordering::Relaxed)), "dirty memory was handed out");
}

/// Every order with at most three preemptions, which is where practically all mistakes are; all orders of four threads
/// would take hours.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scenario);
}

#[test]
fn two_releases_a_scrub_and_a_shrink_lose_nothing() {
    model(|| {
        let (stock, cells) = (stock(4), cells::<2>());
        let releases = cells.clone().map(|cell| {
            let stock = Arc::clone(&stock);
            loom::thread::spawn(move || release(&stock, &cell))
        });
        let keeper = {
            let stock = Arc::clone(&stock);
            loom::thread::spawn(move || stock.scrub_one(Duration::ZERO).unwrap_or_default())
        };
        let (shrunk, _) = stock.shrink(BYTES);
        let refused = releases.map(|thread| thread.join().expect("no panic"));
        assert_eq!(sum(refused), Retired::default(), "there is room for both");
        settle(&stock, &cells, sum([keeper.join().expect("no panic"), shrunk]));
    });
}

#[test]
fn a_scrub_a_drain_and_a_taker_never_share_memory() {
    model(|| {
        let (stock, cells) = (stock(4), cells::<2>());
        for cell in &cells {
            assert_eq!(release(&stock, cell), Retired::default());
        }
        let keeper = {
            let stock = Arc::clone(&stock);
            loom::thread::spawn(move || stock.scrub_one(Duration::ZERO).unwrap_or_default())
        };
        let taker = {
            let stock = Arc::clone(&stock);
            loom::thread::spawn(move || stock.take(size(), 1, &OWNER, Duration::ZERO).spares)
        };
        let drained = stock.drain(BYTES, Duration::ZERO);
        let retired = keeper.join().expect("no panic");
        let taken = taker.join().expect("no panic");
        assert!(taken.iter().all(|cell| !cell.0.load(Ordering::Relaxed)), "dirty memory was handed out");
        // It goes back as if its client had let go of it, so that the same sums hold.
        drop(taken);
        let rest = stock.drain(0, Duration::ZERO);
        let all = sum([retired, drained, rest]);
        assert_eq!(all, Retired { buffers: 2, bytes: 2 * BYTES });
        let kept = cells.iter().filter(|cell| Memory::strong_count(&cell.0) == 2).count() as u64;
        assert_eq!(stock.counters().pooled_bytes, kept * BYTES);
        assert_eq!(stock.counters().hits + kept, 2, "what was not handed out is kept");
    });
}

#[test]
fn a_backlog_that_is_full_is_refused_and_not_lost() {
    model(|| {
        let (stock, cells) = (stock(1), cells::<2>());
        let [first, second] = cells.clone();
        let other = {
            let stock = Arc::clone(&stock);
            loom::thread::spawn(move || {
                let refused = release(&stock, &second);
                drop(second);
                sum([refused, stock.scrub_one(Duration::ZERO).unwrap_or_default()])
            })
        };
        let refused = release(&stock, &first);
        drop(first);
        let retired = other.join().expect("no panic");
        settle(&stock, &cells, sum([refused, retired]));
    });
}
