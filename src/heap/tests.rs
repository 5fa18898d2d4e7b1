// SPDX-License-Identifier: Apache-2.0
//! Requests that heaps accept and refuse.

use super::*;
use crate::config::spec::Device;
use crate::ledger::HeapAccount;
use crate::pool::{PoolLimits, TrustDomain};
use crate::source::memfd::MemfdSource;
use crate::sys::fd::Inode;
use crate::sys::wipe::Wipe;
use crate::units::{Access, HeapType};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn spec(kind: HeapType, size: Option<u64>) -> HeapSpec {
    let aliases = vec![HeapName::new("qcom,camera").expect("valid")];
    HeapSpec { aliases, ..HeapSpec::plain(3, "camera", kind, size) }
}

fn heap(spec: HeapSpec) -> Heap {
    let page = crate::sys::memory::page_size().expect("page size");
    let memfd = Arc::new(MemfdSource::new(page).expect("memfd"));
    build(spec, Vec::new(), &Machine::plain(page, 64 * MIB, memfd))
}

fn needs(bytes: u64) -> Needs {
    let bytes = RequestedBytes(i64::try_from(bytes).expect("small"));
    Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: Access::ReadWrite }
}

#[test]
fn a_system_heap_refuses_a_buffer_above_half_of_the_memory() {
    let heap = heap(spec(HeapType::System, None));
    assert!(heap.accept(&needs(32 * MIB)).is_ok());
    let rejection = heap.accept(&needs(32 * MIB + 1)).expect_err("half of 64 MiB");
    assert!(matches!(rejection, Rejection::TooLarge { limit, .. } if limit == 32 * MIB));
}

#[test]
fn chunk_sizes_round_up_to_whole_chunks() {
    let heap = heap(HeapSpec { chunk_size: Some(MIB), ..spec(HeapType::Chunk, Some(8 * MIB)) });
    assert_eq!(heap.accept(&needs(1)).expect("accepted").get(), MIB);
    assert_eq!(heap.accept(&needs(MIB + 1)).expect("accepted").get(), 2 * MIB);
}

#[test]
fn a_closed_heap_admits_only_the_uids_it_names() {
    let heap = heap(HeapSpec { allow_uids: Some(vec![Uid(1047)]), ..spec(HeapType::System, None) });
    assert!(heap.admits(Uid(1047)) && !heap.admits(Uid(1000)));
}

#[test]
fn kinds_of_buffer_it_cannot_give_are_refused() {
    let heap = heap(HeapSpec { cached: false, ..spec(HeapType::System, None) });
    let unsupported = |needs: Needs| matches!(heap.accept(&needs), Err(Rejection::Unsupported(_)));
    assert!(unsupported(Needs { dma_buf: true, ..needs(1) }));
    assert!(unsupported(Needs { cached: true, ..needs(1) }));
    assert!(unsupported(Needs { alignment: 2 * heap.max_alignment(), ..needs(1) }));
    assert!(!unsupported(Needs { alignment: heap.max_alignment(), ..needs(1) }));
}

#[test]
fn a_heap_without_its_source_is_unavailable_and_says_why() {
    let dma_heap = Device::DmaHeap(HeapName::new("linux,cma").expect("valid"));
    let cases = [
        (spec(HeapType::Dma, Some(MIB)), "CMA"),
        (spec(HeapType::SystemContig, None), "huge pages"),
        (HeapSpec { device: Device::Hugetlb, ..spec(HeapType::System, None) }, "huge pages"),
        (HeapSpec { device: Device::Memfd, ..spec(HeapType::SystemContig, None) }, "only within a page"),
        (spec(HeapType::Custom, None), "no list of sources"),
        (HeapSpec { device: dma_heap, ..spec(HeapType::System, None) }, "no dma-heap"),
        (HeapSpec { secure: true, ..spec(HeapType::System, None) }, "secure"),
        (
            HeapSpec { unavailable: Some("as configured".into()), ..spec(HeapType::System, None) },
            "as configured",
        ),
    ];
    for (spec, word) in cases {
        let heap = heap(spec);
        assert!(heap.unavailable().expect("unavailable").contains(word), "{:?}", heap.unavailable());
        assert!(matches!(heap.accept(&needs(1)), Err(Rejection::Unavailable(_))));
        assert!(heap.create(needs(1).bytes.round_up(1).expect("valid"), Access::ReadWrite, None).is_err());
    }
}

#[test]
fn a_configured_memfd_budget_stands_in_for_cma_when_asked_for() {
    let heap = heap(HeapSpec { device: Device::Memfd, ..spec(HeapType::Dma, Some(8 * MIB)) });
    assert_eq!(heap.unavailable(), None);
    assert_eq!(heap.capacity(), Some(8 * MIB));
    let figures = heap.fragmentation().expect("set aside at the start");
    assert_eq!((figures.free_bytes, figures.largest_free_bytes), (8 * MIB, 8 * MIB));
    assert!(heap.answers_to("qcom,camera") && heap.answers_to("camera") && !heap.answers_to("cam"));
}

/// Memory whose every operation makes another thread take the pool's lock.
struct Intrusive {
    file: File,
    pool: Weak<Pool>,
}

impl Intrusive {
    fn intrude(&self) {
        let (sender, answer) = mpsc::channel();
        let pool = self.pool.clone();
        std::thread::spawn(move || sender.send(pool.upgrade().map(|pool| pool.account().free(OWNER))));
        answer.recv_timeout(Duration::from_secs(60)).expect("the pool is locked");
    }
}

impl Memory for Intrusive {
    fn open(&self, _: Access) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    fn backing(&self) -> Backing {
        Backing::Memfd
    }

    fn inode(&self) -> Inode {
        crate::sys::fd::inode(&self.file).expect("open")
    }

    fn is_idle(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn worth_keeping(&self) -> Result<(), crate::source::Unfit> {
        self.intrude();
        Ok(())
    }

    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        self.intrude();
        Ok(Wipe::new(Vec::new()))
    }

    fn cleaned(&self) {
        self.intrude();
    }
}

impl Drop for Intrusive {
    fn drop(&mut self) {
        self.intrude();
    }
}

const OWNER: Uid = Uid(1);

fn mib() -> BackedBytes {
    needs(MIB).bytes.round_up(1).expect("valid")
}

fn pool(limit: u64) -> Arc<Pool> {
    let limits = PoolLimits { bytes: limit, entries: 8 };
    Arc::new(Pool::new(HeapAccount::new(Some(16 * MIB), Vec::new()), Some(limits)))
}

/// Allocates and releases 1 MiB as a client of `uid`.
fn release(pool: &Arc<Pool>, uid: u32) {
    pool.account().book(OWNER, MIB).expect("room");
    pool.account().allocated(1, MIB);
    let file = File::open("/dev/null").expect("/dev/null");
    let stored = Stored { memory: Arc::new(Intrusive { file, pool: Arc::downgrade(pool) }), watch: None };
    let Ok(released) = pool.prepare(stored, mib(), TrustDomain::Uid(Uid(uid))) else {
        panic!("worth keeping")
    };
    discard(pool.release(OWNER, released));
}

fn work(pool: &Pool, now: Duration) {
    let work = pool.next_work().expect("something was released");
    pool.worked(&work, &work.wipe.work(), now);
}

#[test]
fn the_pool_is_not_locked_while_memory_is_asked_cleaned_or_dropped() {
    let pool = pool(2 * MIB);
    release(&pool, 1);
    work(&pool, Duration::ZERO);
    assert_eq!((pool.counters().1.pooled_bytes, pool.counters().1.discarded.total()), (MIB, 0));
    release(&pool, 1);
    release(&pool, 1);
    let (counters, counted) = pool.counters();
    assert_eq!((counted.pooled_bytes, counted.discarded.of(Discard::Full)), (0, 1), "the oldest gave way");
    assert_eq!((counters.deferred_bytes, counters.buffers), (2 * MIB, 2));
    let domain = TrustDomain::Uid(Uid(1));
    let taken = pool.take(&Wanted { bytes: mib(), count: 1, domain: &domain, unzeroed: false });
    assert_eq!((taken.clean.len(), taken.released.len()), (0, 1));
    taken.released.into_iter().for_each(|released| drop(pool.clean(released).expect("cleaned")));
    assert_eq!(pool.shrink(0), MIB);
    assert_eq!(pool.counters().0.buffers, 0);
}

#[test]
fn booked_bytes_make_pooled_memory_give_way() {
    let pool = pool(8 * MIB);
    (0..4).for_each(|_| release(&pool, 1));
    work(&pool, Duration::ZERO);
    assert_eq!(pool.account().free(OWNER), Some(16 * MIB), "pooled memory takes no room");
    pool.account().book(OWNER, 13 * MIB).expect("room");
    discard(pool.fit());
    let (counters, counted) = pool.counters();
    assert_eq!((counters.deferred_bytes + counted.pooled_bytes, counters.buffers), (3 * MIB, 2));
    pool.account().unbook(OWNER, 13 * MIB);
}

#[test]
fn idle_memory_expires() {
    let pool = pool(2 * MIB);
    release(&pool, 1);
    work(&pool, Duration::ZERO);
    release(&pool, 2);
    work(&pool, IDLE);
    assert!(pool.expire(IDLE), "the second one stays");
    assert_eq!(pool.counters().1.pooled_bytes, MIB);
    assert!(!pool.expire(2 * IDLE));
}
