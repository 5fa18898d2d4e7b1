// SPDX-License-Identifier: Apache-2.0
//! Tests the ledger and heaps' accounts: their limits, and a comparison with a slow and simple
//! model.

use super::*;
use crate::units::RequestedBytes;
use proptest::prelude::*;

const PAGE: u64 = 4096;

fn bytes(pages: u64) -> BackedBytes {
    RequestedBytes(i64::try_from(pages * PAGE).expect("small")).round_up(PAGE).expect("valid")
}

fn claim(uid: u32, heap: usize, count: usize, pages: u64) -> Claim {
    Claim { uid: Uid(uid), heap, count, bytes: bytes(pages), metadata: 0 }
}

/// The ledger with the accounts of all heaps, used in the same way as by the allocator.
struct Books {
    ledger: Ledger,
    heaps: Vec<HeapAccount>,
}

impl Books {
    fn new(capacities: &[Option<u64>], limits: Limits, max_buffers: u64) -> Self {
        let account =
            |(heap, capacity): (_, &Option<u64>)| HeapAccount::new(*capacity, limits.reserves_of(heap));
        let heaps = capacities.iter().enumerate().map(account).collect();
        Self { ledger: Ledger::new(limits, max_buffers), heaps }
    }

    fn book(&mut self, claim: &Claim) -> Result<(), Refusal> {
        let heap = &mut self.heaps[claim.heap];
        heap.book(claim.uid, claim.total())?;
        self.ledger.book(claim).inspect_err(|_| heap.unbook(claim.uid, claim.total()))
    }

    fn unbook(&mut self, claim: &Claim) {
        self.heaps[claim.heap].unbook(claim.uid, claim.total());
        self.ledger.unbook(claim);
    }

    fn allocate(&mut self, claim: &Claim) -> Result<(), Refusal> {
        self.book(claim)?;
        self.allocated(claim);
        Ok(())
    }

    fn allocated(&mut self, claim: &Claim) {
        self.heaps[claim.heap].allocated(claim.count as u64, claim.total());
        self.ledger.allocated(claim.uid);
    }

    /// Releases and frees one buffer of a claim.
    fn free(&mut self, claim: &Claim) {
        self.release(claim);
        self.heaps[claim.heap].retired(1, claim.bytes.get());
    }

    fn release(&mut self, claim: &Claim) {
        self.heaps[claim.heap].released(claim.uid, claim.bytes.get());
        self.ledger.unbook(&claim.of(1));
    }

    fn reserve(&mut self, claim: &Claim) -> Result<(), Refusal> {
        let heap = &mut self.heaps[claim.heap];
        heap.book(claim.uid, claim.total())?;
        self.ledger.reserve(claim).inspect_err(|_| heap.unbook(claim.uid, claim.total()))?;
        heap.mark_reserved(claim.total());
        Ok(())
    }

    fn unreserve(&mut self, claim: &Claim) {
        let heap = &mut self.heaps[claim.heap];
        heap.draw(claim.total());
        heap.unbook(claim.uid, claim.total());
        self.ledger.unreserve(claim);
    }

    /// Draws `drawn` reserved buffers and books `more` others.
    fn draw(&mut self, claim: &Claim, drawn: usize, more: usize) -> Result<(), Refusal> {
        self.book(&claim.of(more))?;
        self.heaps[claim.heap].draw(claim.of(drawn).total());
        self.ledger.draw(&claim.of(drawn));
        Ok(())
    }

    fn undraw(&mut self, claim: &Claim, drawn: usize, more: usize) {
        self.heaps[claim.heap].mark_reserved(claim.of(drawn).total());
        self.ledger.mark_reserved(&claim.of(drawn));
        self.unbook(&claim.of(more));
    }
}

#[test]
fn a_released_buffer_leaves_all_accounts_at_once_and_the_counters_when_retired() {
    let mut books = Books::new(&[Some(4 * PAGE)], Limits::default(), u64::MAX);
    books.allocate(&claim(1, 0, 2, 1)).expect("room");
    books.release(&claim(1, 0, 1, 1));
    assert_eq!((books.ledger.usage(Uid(1)).bytes, books.ledger.usage(Uid(1)).buffers), (PAGE, 1));
    let counters = books.heaps[0].counters();
    assert_eq!(
        (counters.buffers, counters.bytes, counters.deferred_bytes, counters.frees),
        (2, 2 * PAGE, PAGE, 1)
    );
    assert_eq!(books.heaps[0].unbooked(), Some(3 * PAGE), "pooled memory takes no room");
    books.heaps[0].retired(1, PAGE);
    let counters = books.heaps[0].counters();
    assert_eq!((counters.buffers, counters.bytes, counters.deferred_bytes), (1, PAGE, 0));
}

#[test]
fn a_batch_beyond_the_byte_quota_is_refused_and_books_nothing() {
    let mut books = Books::new(&[None], Limits::new(Some(4 * PAGE), None), u64::MAX);
    let refusal = books.book(&claim(7, 0, 5, 1)).expect_err("five pages of four");
    assert_eq!(refusal, Refusal::QuotaBytes { uid: Uid(7), asked: 5 * PAGE, held: 0, limit: 4 * PAGE });
    assert_eq!((books.ledger.usage(Uid(7)).bytes, books.heaps[0].booked()), (0, 0));
    books.allocate(&claim(7, 0, 4, 1)).expect("exactly the quota");
    assert!(books.book(&claim(7, 0, 1, 1)).expect_err("full").is_quota());
    books.allocate(&claim(8, 0, 4, 1)).expect("another uid has its own quota");
}

#[test]
fn a_total_that_overflows_is_refused_not_wrapped() {
    let mut books = Books::new(&[Some(u64::MAX - 1)], Limits::new(Some(u64::MAX - 1), None), u64::MAX);
    let huge = RequestedBytes(i64::MAX - 4095).round_up(PAGE).expect("valid");
    let refused = books.book(&Claim { uid: Uid(1), heap: 0, count: 64, bytes: huge, metadata: 0 });
    assert!(matches!(refused, Err(Refusal::HeapFull { asked: u64::MAX, .. })), "{refused:?}");
}

#[test]
fn anothers_reserve_cannot_be_taken_and_ones_own_can() {
    let limits = Limits::new(None, None).with_reserve(Uid(1), 0, 6 * PAGE);
    let mut books = Books::new(&[Some(10 * PAGE)], limits, u64::MAX);
    let refusal = books.book(&claim(2, 0, 5, 1)).expect_err("only four are free for uid 2");
    assert!(matches!(refusal, Refusal::HeapFull { free, .. } if free == 4 * PAGE), "{refusal:?}");
    let held = claim(1, 0, 8, 1);
    books.allocate(&held).expect("reserve and more");
    assert_eq!(books.heaps[0].free(Uid(2)), Some(2 * PAGE), "the reserve is in use, so all the rest is free");
    (0..8).for_each(|_| books.free(&held));
    assert_eq!(books.heaps[0].free(Uid(2)), Some(4 * PAGE));
}

#[test]
fn the_service_holds_no_more_buffers_than_it_can() {
    let mut books = Books::new(&[None], Limits::default(), 5);
    let held = claim(1, 0, 4, 1);
    books.allocate(&held).expect("four of five");
    let refusal = books.book(&claim(2, 0, 2, 1)).expect_err("six of five");
    assert_eq!(refusal, Refusal::ServiceFull { asked: 2, held: 4, limit: 5 });
    assert!(!refusal.is_quota());
    books.free(&held);
    books.book(&claim(2, 0, 2, 1)).expect("five of five");
    books.unbook(&claim(2, 0, 2, 1));
    books.allocate(&claim(2, 0, 2, 1)).expect("what was unbooked leaves room");
}

#[test]
fn the_watermark_never_falls() {
    let mut books = Books::new(&[None], Limits::default(), u64::MAX);
    let held = claim(1, 0, 3, 2);
    books.allocate(&held).expect("unlimited");
    (0..3).for_each(|_| books.free(&held));
    let counters = books.heaps[0].counters();
    assert_eq!((counters.buffers, counters.bytes, counters.bytes_watermark), (0, 0, 6 * PAGE));
    assert_eq!((counters.allocations, counters.frees), (3, 3));
}

#[test]
fn an_unbooked_claim_leaves_no_trace_but_the_uid() {
    let mut books = Books::new(&[Some(8 * PAGE)], Limits::new(Some(8 * PAGE), Some(8)), u64::MAX);
    books.book(&claim(1, 0, 8, 1)).expect("all of it");
    assert!(books.book(&claim(1, 0, 1, 1)).is_err());
    books.unbook(&claim(1, 0, 8, 1));
    assert_eq!(books.heaps[0].counters(), HeapCounters::default());
    assert_eq!(books.heaps[0].free(Uid(1)), Some(8 * PAGE));
    assert_eq!(books.ledger.usage(Uid(1)).peak_bytes, 0);
}

#[test]
fn idle_accounts_do_not_accumulate() {
    let mut books = Books::new(&[None], Limits::default(), u64::MAX);
    books.allocate(&claim(1_000_000, 0, 1, 1)).expect("unlimited");
    for uid in 0..20_000 {
        books.allocate(&claim(uid, 0, 1, 1)).expect("unlimited");
        books.free(&claim(uid, 0, 1, 1));
    }
    assert!(books.ledger.usages().count() <= 4097);
    assert_eq!(books.ledger.usage(Uid(1_000_000)).buffers, 1);
}

#[test]
fn reserved_memory_is_charged_once_and_does_not_count_as_held() {
    let mut books = Books::new(&[Some(8 * PAGE)], Limits::new(Some(8 * PAGE), Some(8)), 8);
    books.reserve(&claim(1, 0, 6, 1)).expect("room");
    let usage = books.ledger.usage(Uid(1));
    assert_eq!((usage.bytes, usage.buffers, usage.reserved_bytes, usage.peak_bytes), (0, 0, 6 * PAGE, 0));
    let counters = books.heaps[0].counters();
    assert_eq!((counters.bytes, counters.reserved_bytes), (0, 6 * PAGE));
    assert!(books.book(&claim(1, 0, 3, 1)).is_err() && books.book(&claim(2, 0, 3, 1)).is_err());
    let all = claim(1, 0, 8, 1);
    books.draw(&all, 6, 2).expect("two more");
    books.undraw(&all, 6, 2);
    assert_eq!(books.heaps[0].counters().reserved_bytes, 6 * PAGE);
    books.draw(&all, 6, 2).expect("two more");
    books.allocated(&all);
    let usage = books.ledger.usage(Uid(1));
    assert_eq!((usage.bytes, usage.reserved_bytes, usage.peak_bytes), (8 * PAGE, 0, 8 * PAGE));
}

#[test]
fn the_total_reserved_in_all_heaps_is_limited() {
    let mut books = Books::new(&[None, None], Limits::default(), u64::MAX);
    books.ledger = books.ledger.with_max_reserved(4 * PAGE);
    books.reserve(&claim(1, 0, 3, 1)).expect("three of four");
    let refusal = books.reserve(&claim(2, 1, 2, 1)).expect_err("five of four");
    assert_eq!(refusal, Refusal::ReservedFull { asked: 2 * PAGE, held: 3 * PAGE, limit: 4 * PAGE });
    books.unreserve(&claim(1, 0, 3, 1));
    books.reserve(&claim(2, 1, 4, 1)).expect("all four");
}

/// An operation of a client on the accounts.
#[derive(Debug, Clone)]
enum Step {
    Allocate(Claim),
    BookAndUnbook(Claim),
    Reserve(Claim),
    /// Draws the first number of buffers of the reservation at this index, books the second number,
    /// and keeps them or not.
    Draw(prop::sample::Index, usize, usize, bool),
    Unreserve(prop::sample::Index),
    Release(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let claims = (0u32..4, 0usize..2, 1usize..6, 1u64..20)
        .prop_map(|(uid, heap, n, pages)| claim(uid, heap, n, pages));
    let step = prop_oneof![
        claims.clone().prop_map(Step::Allocate),
        claims.clone().prop_map(Step::BookAndUnbook),
        claims.prop_map(Step::Reserve),
        (any::<prop::sample::Index>(), 0usize..6, 0usize..3, any::<bool>())
            .prop_map(|(index, drawn, more, keep)| Step::Draw(index, drawn, more, keep)),
        any::<prop::sample::Index>().prop_map(Step::Unreserve),
        any::<prop::sample::Index>().prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..200)
}

/// The model: a list of live buffers, from which it computes everything else.
#[derive(Default)]
struct Naive {
    /// One claim for each buffer.
    live: Vec<Claim>,
    /// One claim for each reservation; its count decreases as buffers are drawn.
    reserved: Vec<Claim>,
    watermark: [u64; 2],
}

impl Naive {
    fn held(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        self.live.iter().filter(|claim| keep(claim)).map(|claim| claim.bytes.get()).sum()
    }

    fn reserved(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        let reserved = self.reserved.iter().filter(|claim| keep(claim));
        reserved.map(|claim| claim.bytes.get() * claim.count as u64).sum()
    }

    fn charged(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        self.held(&keep) + self.reserved(&keep)
    }

    fn add(&mut self, claim: &Claim) {
        self.live.extend((0..claim.count).map(|_| claim.of(1)));
    }

    fn admits(&self, claim: &Claim, capacity: [Option<u64>; 2], quota: u64, reserve: u64) -> bool {
        let asked = claim.bytes.get() * claim.count as u64;
        let unused = |uid: u32| match uid {
            0 if claim.uid != Uid(0) && claim.heap == 0 => {
                reserve.saturating_sub(self.charged(|held| held.uid == Uid(0) && held.heap == 0))
            }
            _ => 0,
        };
        let heap_room = capacity[claim.heap].is_none_or(|capacity| {
            self.charged(|held| held.heap == claim.heap) + unused(0) + asked <= capacity
        });
        heap_room && self.charged(|held| held.uid == claim.uid) + asked <= quota
    }
}

proptest! {
    #[test]
    fn every_sequence_agrees_with_the_naive_model(steps in steps()) {
        let (capacity, quota, reserve) = ([Some(100 * PAGE), None], 150 * PAGE, 30 * PAGE);
        let limits = Limits::new(Some(quota), None).with_reserve(Uid(0), 0, reserve);
        let mut books = Books::new(&capacity, limits, u64::MAX);
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Allocate(claim) => {
                    let admitted = naive.admits(&claim, capacity, quota, reserve);
                    prop_assert_eq!(books.allocate(&claim).is_ok(), admitted);
                    if admitted {
                        naive.add(&claim);
                    }
                }
                Step::BookAndUnbook(claim) => {
                    if books.book(&claim).is_ok() {
                        books.unbook(&claim);
                    }
                }
                Step::Reserve(claim) => {
                    let admitted = naive.admits(&claim, capacity, quota, reserve);
                    prop_assert_eq!(books.reserve(&claim).is_ok(), admitted);
                    if admitted {
                        naive.reserved.push(claim);
                    }
                }
                Step::Draw(index, drawn, more, keep) => {
                    if naive.reserved.is_empty() {
                        continue;
                    }
                    let index = index.index(naive.reserved.len());
                    let reserved = naive.reserved[index];
                    let drawn = drawn.min(reserved.count);
                    let admitted =
                        more == 0 || naive.admits(&reserved.of(more), capacity, quota, reserve);
                    let booked = books.draw(&reserved, drawn, more);
                    prop_assert_eq!(booked.is_ok(), admitted);
                    match booked {
                        Ok(()) if keep => {
                            books.allocated(&reserved.of(drawn + more));
                            naive.add(&reserved.of(drawn + more));
                            naive.reserved[index].count -= drawn;
                        }
                        Ok(()) => books.undraw(&reserved, drawn, more),
                        Err(_) => {}
                    }
                }
                Step::Unreserve(index) => {
                    if !naive.reserved.is_empty() {
                        let claim = naive.reserved.swap_remove(index.index(naive.reserved.len()));
                        books.unreserve(&claim);
                    }
                }
                Step::Release(index) => {
                    if !naive.live.is_empty() {
                        let claim = naive.live.swap_remove(index.index(naive.live.len()));
                        books.free(&claim);
                    }
                }
            }
            for heap in 0..2 {
                let bytes = naive.held(|held| held.heap == heap);
                naive.watermark[heap] = naive.watermark[heap].max(bytes);
                let counters = books.heaps[heap].counters();
                prop_assert_eq!(counters.bytes, bytes);
                prop_assert_eq!(counters.reserved_bytes, naive.reserved(|held| held.heap == heap));
                prop_assert_eq!(counters.bytes_watermark, naive.watermark[heap]);
                let buffers = naive.live.iter().filter(|claim| claim.heap == heap).count();
                prop_assert_eq!(counters.buffers, buffers as u64);
                prop_assert_eq!(books.heaps[heap].booked(), naive.charged(|held| held.heap == heap));
            }
            for uid in 0..4 {
                let usage = books.ledger.usage(Uid(uid));
                prop_assert_eq!(usage.bytes, naive.held(|held| held.uid == Uid(uid)));
                prop_assert_eq!(usage.reserved_bytes, naive.reserved(|held| held.uid == Uid(uid)));
            }
        }
    }
}

#[test]
fn some_buffers_are_kept_for_uids_with_few_and_for_favoured_ones() {
    let limits = Limits::new(None, None).with_favoured([Uid(0)]);
    let mut books = Books::new(&[None], limits, 1600);
    let mut take = |uid, count| books.allocate(&claim(uid, 0, count, 1));
    assert_eq!(take(1, 1400), Ok(()));
    let full = |asked, held, limit| Err(Refusal::ServiceFull { asked, held, limit });
    assert_eq!(take(1, 1), full(1, 1400, 1400));
    assert_eq!(take(2, 64), Ok(()), "who has few still gets a batch");
    assert_eq!(take(2, 1), full(1, 1464, 1400));
    assert_eq!(take(3, 36), Ok(()));
    assert_eq!(take(4, 1), full(1, 1500, 1500));
    assert_eq!(take(0, 100), Ok(()), "the rest is kept");
    assert_eq!(take(0, 1), full(1, 1600, 1600));
    assert!(!books.ledger.left(Uid(4), 1).1 && books.ledger.left(Uid(4), 0).1);
}
