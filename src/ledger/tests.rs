// SPDX-License-Identifier: Apache-2.0
//! The ledger against limits, and against a slow and obvious model of itself.

use super::*;
use crate::units::RequestedBytes;
use proptest::prelude::*;

const PAGE: u64 = 4096;

fn bytes(pages: u64) -> BackedBytes {
    RequestedBytes(i64::try_from(pages * PAGE).expect("small")).round_up(PAGE).expect("valid")
}

fn claim(uid: u32, heap: usize, count: usize, pages: u64) -> Claim {
    Claim { uid: Uid(uid), heap, count, bytes: bytes(pages) }
}

fn records(claim: Claim, next_id: &mut u64) -> Vec<Record> {
    let mut record = || {
        *next_id += 1;
        Record {
            id: BufferId(*next_id),
            heap: claim.heap,
            bytes: claim.bytes,
            uid: claim.uid,
            pid: 1,
            label: Label::default(),
            inode: *next_id,
            created: Duration::ZERO,
        }
    };
    (0..claim.count).map(|_| record()).collect()
}

fn allocate(ledger: &mut Ledger, claim: Claim, next_id: &mut u64) -> Result<Vec<BufferId>, Refusal> {
    let reservation = ledger.reserve(claim)?;
    let records = records(claim, next_id);
    let ids = records.iter().map(|record| record.id).collect();
    ledger.commit(reservation, records);
    Ok(ids)
}

/// Releases and truly frees a buffer.
fn free(ledger: &mut Ledger, id: BufferId) -> Option<Record> {
    let record = ledger.release(id)?;
    ledger.retire(record.heap, 1, record.bytes.get());
    Some(record)
}

#[test]
fn a_released_buffer_leaves_its_owner_at_once_and_the_heap_when_retired() {
    let mut ledger = Ledger::new([Some(4 * PAGE)], Limits::default(), u64::MAX);
    let ids = allocate(&mut ledger, claim(1, 0, 2, 1), &mut 0).expect("room");
    ledger.release(ids[0]).expect("live");
    assert_eq!((ledger.usage(Uid(1)).bytes, ledger.usage(Uid(1)).buffers), (PAGE, 1));
    let counters = ledger.heap(0);
    assert_eq!(
        (counters.buffers, counters.bytes, counters.deferred_bytes, counters.frees),
        (2, 2 * PAGE, PAGE, 1)
    );
    assert_eq!(ledger.unbooked(0), Some(2 * PAGE), "deferred memory takes room");
    ledger.retire(0, 1, PAGE);
    let counters = ledger.heap(0);
    assert_eq!((counters.buffers, counters.bytes, counters.deferred_bytes), (1, PAGE, 0));
    assert_eq!(ledger.unbooked(0), Some(3 * PAGE));
}

#[test]
fn a_batch_beyond_the_byte_quota_is_refused_and_books_nothing() {
    let mut ledger = Ledger::new([None], Limits::new(Some(4 * PAGE), None), u64::MAX);
    let refusal = ledger.reserve(claim(7, 0, 5, 1)).expect_err("five pages of four");
    assert_eq!(refusal, Refusal::QuotaBytes { uid: Uid(7), asked: 5 * PAGE, held: 0, limit: 4 * PAGE });
    assert_eq!(ledger.usage(Uid(7)).bytes, 0);
    allocate(&mut ledger, claim(7, 0, 4, 1), &mut 0).expect("exactly the quota");
    assert!(ledger.reserve(claim(7, 0, 1, 1)).expect_err("full").is_quota());
    allocate(&mut ledger, claim(8, 0, 4, 1), &mut 10).expect("another uid has its own quota");
}

#[test]
fn a_total_that_overflows_is_refused_not_wrapped() {
    let mut ledger = Ledger::new([Some(u64::MAX - 1)], Limits::new(Some(u64::MAX - 1), None), u64::MAX);
    let huge = RequestedBytes(i64::MAX - 4095).round_up(PAGE).expect("valid");
    let refused = ledger.reserve(Claim { uid: Uid(1), heap: 0, count: 64, bytes: huge });
    assert!(matches!(refused, Err(Refusal::HeapFull { asked: u64::MAX, .. })), "{refused:?}");
}

#[test]
fn anothers_reserve_cannot_be_taken_and_ones_own_can() {
    let limits = Limits::new(None, None).with_reserve(Uid(1), 0, 6 * PAGE);
    let mut ledger = Ledger::new([Some(10 * PAGE)], limits, u64::MAX);
    let refusal = ledger.reserve(claim(2, 0, 5, 1)).expect_err("only four are free for uid 2");
    assert!(matches!(refusal, Refusal::HeapFull { free, .. } if free == 4 * PAGE), "{refusal:?}");
    let mut id = 0;
    let held = allocate(&mut ledger, claim(1, 0, 8, 1), &mut id).expect("reserve and more");
    assert_eq!(ledger.free(0, Uid(2)), Some(2 * PAGE), "the reserve is in use, so all the rest is free");
    for id in held {
        free(&mut ledger, id).expect("live");
    }
    assert_eq!(ledger.free(0, Uid(2)), Some(4 * PAGE));
}

#[test]
fn the_service_holds_no_more_buffers_than_it_can() {
    let mut ledger = Ledger::new([None], Limits::default(), 5);
    let held = allocate(&mut ledger, claim(1, 0, 4, 1), &mut 0).expect("four of five");
    let refusal = ledger.reserve(claim(2, 0, 2, 1)).expect_err("six of five");
    assert_eq!(refusal, Refusal::ServiceFull { asked: 2, held: 4, limit: 5 });
    assert!(!refusal.is_quota());
    free(&mut ledger, held[0]).expect("live");
    let reservation = ledger.reserve(claim(2, 0, 2, 1)).expect("five of five");
    ledger.cancel(reservation);
    allocate(&mut ledger, claim(2, 0, 2, 1), &mut 10).expect("a cancelled claim leaves room");
}

#[test]
fn the_watermark_never_falls() {
    let mut ledger = Ledger::new([None], Limits::default(), u64::MAX);
    let ids = allocate(&mut ledger, claim(1, 0, 3, 2), &mut 0).expect("unlimited");
    for id in ids {
        assert!(free(&mut ledger, id).is_some());
        assert!(free(&mut ledger, id).is_none(), "released once");
    }
    let counters = ledger.heap(0);
    assert_eq!((counters.buffers, counters.bytes, counters.bytes_watermark), (0, 0, 6 * PAGE));
    assert_eq!((counters.allocations, counters.frees), (3, 3));
}

#[test]
fn a_cancelled_reservation_leaves_no_trace_but_the_uid() {
    let mut ledger = Ledger::new([Some(8 * PAGE)], Limits::new(Some(8 * PAGE), Some(8)), u64::MAX);
    let reservation = ledger.reserve(claim(1, 0, 8, 1)).expect("all of it");
    assert!(ledger.reserve(claim(1, 0, 1, 1)).is_err());
    ledger.cancel(reservation);
    assert_eq!(ledger.heap(0), HeapCounters::default());
    assert_eq!(ledger.free(0, Uid(1)), Some(8 * PAGE));
    assert_eq!(ledger.usage(Uid(1)).peak_bytes, 0);
}

#[test]
fn idle_accounts_do_not_accumulate() {
    let mut ledger = Ledger::new([None], Limits::default(), u64::MAX);
    let mut id = 0;
    let kept = allocate(&mut ledger, claim(1_000_000, 0, 1, 1), &mut id).expect("unlimited");
    for uid in 0..20_000 {
        for buffer in allocate(&mut ledger, claim(uid, 0, 1, 1), &mut id).expect("unlimited") {
            free(&mut ledger, buffer).expect("live");
        }
    }
    assert!(ledger.usages().count() <= 4097);
    assert_eq!(ledger.usage(Uid(1_000_000)).buffers, kept.len() as u64);
}

#[test]
fn what_is_set_aside_is_charged_once_and_does_not_count_as_held() {
    let mut ledger = Ledger::new([Some(8 * PAGE)], Limits::new(Some(8 * PAGE), Some(8)), 8);
    ledger.set_aside(claim(1, 0, 6, 1)).expect("room");
    let usage = ledger.usage(Uid(1));
    assert_eq!((usage.bytes, usage.buffers, usage.reserved_bytes, usage.peak_bytes), (0, 0, 6 * PAGE, 0));
    assert_eq!((ledger.heap(0).bytes, ledger.heap(0).reserved_bytes), (0, 6 * PAGE));
    assert!(ledger.reserve(claim(1, 0, 3, 1)).is_err() && ledger.reserve(claim(2, 0, 3, 1)).is_err());
    let reservation = ledger.reserve_drawing(claim(1, 0, 8, 1), 6).expect("two more");
    ledger.cancel_drawing(reservation, 6);
    assert_eq!(ledger.heap(0).reserved_bytes, 6 * PAGE);
    let all = claim(1, 0, 8, 1);
    let reservation = ledger.reserve_drawing(all, 6).expect("two more");
    ledger.commit(reservation, records(all, &mut 0));
    let usage = ledger.usage(Uid(1));
    assert_eq!((usage.bytes, usage.reserved_bytes, usage.peak_bytes), (8 * PAGE, 0, 8 * PAGE));
}

#[test]
fn what_is_set_aside_of_all_heaps_together_is_limited() {
    let mut ledger = Ledger::new([None, None], Limits::default(), u64::MAX).with_max_reserved(4 * PAGE);
    ledger.set_aside(claim(1, 0, 3, 1)).expect("three of four");
    let refusal = ledger.set_aside(claim(2, 1, 2, 1)).expect_err("five of four");
    assert_eq!(refusal, Refusal::ReservedFull { asked: 2 * PAGE, held: 3 * PAGE, limit: 4 * PAGE });
    ledger.give_up(claim(1, 0, 3, 1));
    ledger.set_aside(claim(2, 1, 4, 1)).expect("all four");
}

#[test]
fn a_dry_check_counts_deferred_frees_as_free() {
    let mut ledger = Ledger::new([Some(4 * PAGE)], Limits::default(), 4);
    let ids = allocate(&mut ledger, claim(1, 0, 4, 1), &mut 0).expect("all of it");
    ledger.release(ids[0]).expect("live");
    assert!(ledger.check(&claim(2, 0, 1, 1)).is_err());
    ledger.check_drained(&claim(2, 0, 1, 1)).expect("one waits to be freed");
    assert!(ledger.check_drained(&claim(2, 0, 2, 1)).is_err());
    assert_eq!((ledger.free(0, Uid(2)), ledger.free_drained(0, Uid(2))), (Some(0), Some(PAGE)));
}

/// What a client may do to the ledger.
#[derive(Debug, Clone)]
enum Step {
    Allocate(Claim),
    ReserveAndCancel(Claim),
    SetAside(Claim),
    /// Of what was set aside at this place, draws so many and that many more buffers, and keeps them or not.
    Draw(prop::sample::Index, usize, usize, bool),
    GiveUp(prop::sample::Index),
    Release(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let claims = (0u32..4, 0usize..2, 1usize..6, 1u64..20)
        .prop_map(|(uid, heap, n, pages)| claim(uid, heap, n, pages));
    let step = prop_oneof![
        claims.clone().prop_map(Step::Allocate),
        claims.clone().prop_map(Step::ReserveAndCancel),
        claims.prop_map(Step::SetAside),
        (any::<prop::sample::Index>(), 0usize..6, 0usize..3, any::<bool>())
            .prop_map(|(index, drawn, more, keep)| Step::Draw(index, drawn, more, keep)),
        any::<prop::sample::Index>().prop_map(Step::GiveUp),
        any::<prop::sample::Index>().prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..200)
}

/// The oracle: a list of live buffers, everything else recomputed from it.
#[derive(Default)]
struct Naive {
    live: Vec<(BufferId, Claim)>,
    /// What is set aside, one claim each; counts shrink as they are drawn.
    aside: Vec<Claim>,
    watermark: [u64; 2],
}

impl Naive {
    fn held(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        self.live.iter().filter(|(_, claim)| keep(claim)).map(|(_, claim)| claim.bytes.get()).sum()
    }

    fn reserved(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        let aside = self.aside.iter().filter(|claim| keep(claim));
        aside.map(|claim| claim.bytes.get() * claim.count as u64).sum()
    }

    fn charged(&self, keep: impl Fn(&Claim) -> bool) -> u64 {
        self.held(&keep) + self.reserved(&keep)
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
        let mut ledger = Ledger::new(capacity, limits, u64::MAX);
        let (mut naive, mut next_id) = (Naive::default(), 0);
        for step in steps {
            match step {
                Step::Allocate(claim) => {
                    let admitted = naive.admits(&claim, capacity, quota, reserve);
                    match allocate(&mut ledger, claim, &mut next_id) {
                        Ok(ids) => {
                            prop_assert!(admitted);
                            naive.live.extend(ids.into_iter().map(|id| (id, claim)));
                        }
                        Err(_) => prop_assert!(!admitted),
                    }
                }
                Step::ReserveAndCancel(claim) => {
                    if let Ok(reservation) = ledger.reserve(claim) {
                        ledger.cancel(reservation);
                    }
                }
                Step::SetAside(claim) => {
                    let admitted = naive.admits(&claim, capacity, quota, reserve);
                    prop_assert_eq!(ledger.set_aside(claim).is_ok(), admitted);
                    if admitted {
                        naive.aside.push(claim);
                    }
                }
                Step::Draw(index, drawn, more, keep) => {
                    if naive.aside.is_empty() {
                        continue;
                    }
                    let index = index.index(naive.aside.len());
                    let aside = naive.aside[index];
                    let drawn = drawn.min(aside.count);
                    let rest = Claim { count: more, ..aside };
                    let asked = Claim { count: drawn + more, ..aside };
                    let admitted = more == 0 || naive.admits(&rest, capacity, quota, reserve);
                    let reservation = ledger.reserve_drawing(asked, drawn);
                    prop_assert_eq!(reservation.is_ok(), admitted);
                    match reservation {
                        Ok(reservation) if keep => {
                            let records = records(asked, &mut next_id);
                            naive.live.extend(records.iter().map(|record| (record.id, asked)));
                            ledger.commit(reservation, records);
                            naive.aside[index].count -= drawn;
                        }
                        Ok(reservation) => ledger.cancel_drawing(reservation, drawn),
                        Err(_) => {}
                    }
                }
                Step::GiveUp(index) => {
                    if !naive.aside.is_empty() {
                        ledger.give_up(naive.aside.swap_remove(index.index(naive.aside.len())));
                    }
                }
                Step::Release(index) => {
                    if !naive.live.is_empty() {
                        let (id, _) = naive.live.swap_remove(index.index(naive.live.len()));
                        prop_assert!(free(&mut ledger, id).is_some());
                    }
                }
            }
            for heap in 0..2 {
                let bytes = naive.held(|held| held.heap == heap);
                naive.watermark[heap] = naive.watermark[heap].max(bytes);
                let counters = ledger.heap(heap);
                prop_assert_eq!(counters.bytes, bytes);
                prop_assert_eq!(counters.reserved_bytes, naive.reserved(|held| held.heap == heap));
                prop_assert_eq!(counters.bytes_watermark, naive.watermark[heap]);
                let buffers = naive.live.iter().filter(|(_, claim)| claim.heap == heap).count();
                prop_assert_eq!(counters.buffers, buffers as u64);
            }
            for uid in 0..4 {
                let usage = ledger.usage(Uid(uid));
                prop_assert_eq!(usage.bytes, naive.held(|held| held.uid == Uid(uid)));
                prop_assert_eq!(usage.reserved_bytes, naive.reserved(|held| held.uid == Uid(uid)));
            }
        }
    }
}
