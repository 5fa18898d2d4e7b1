// SPDX-License-Identifier: Apache-2.0
//! What heaps accept and refuse.

use super::*;
use crate::config::spec::Device;
use crate::pool::{ShelfLimits, Spare, TrustDomain};
use crate::source::memfd::MemfdSource;
use crate::sys::fd::Inode;
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::units::{Access, HeapType};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Weak, mpsc};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn spec(kind: HeapType, size: Option<u64>) -> HeapSpec {
    let aliases = vec![HeapName::new("qcom,camera").expect("valid")];
    HeapSpec { aliases, ..HeapSpec::plain(3, "camera", kind, size) }
}

fn heap(spec: HeapSpec) -> Heap {
    let page = crate::sys::memory::page_size().expect("page size");
    let memfd = Arc::new(MemfdSource::new(page).expect("memfd"));
    build(spec, &Machine::plain(page, 64 * MIB, memfd))
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
        (HeapSpec { device: Device::Memfd, ..spec(HeapType::SystemContig, None) }, "page by page"),
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
        assert!(heap.create(needs(1).bytes.round_up(1).expect("valid"), Access::ReadWrite).is_err());
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

/// Memory whose scrub needs its stock's lock, taken by another thread.
struct Intrusive {
    file: File,
    stock: Weak<Stock>,
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

    fn watch(&self, _: &CloseWatcher) -> io::Result<Option<Watch>> {
        Ok(None)
    }

    fn worth_keeping(&self) -> Result<(), crate::source::Unfit> {
        Ok(())
    }

    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    fn scrub(&self) -> io::Result<()> {
        let (sender, answer) = mpsc::channel();
        let stock = self.stock.clone();
        std::thread::spawn(move || sender.send(stock.upgrade().map(|stock| stock.counters())));
        answer.recv_timeout(Duration::from_secs(120)).map(drop).map_err(io::Error::other)
    }
}

#[test]
fn what_lies_too_long_costs_a_younger_spare_nothing() {
    let stock = Arc::new(Stock::new(ShelfLimits { bytes: 2 * MIB, spares: 8 }));
    let bytes = needs(MIB).bytes.round_up(1).expect("valid");
    let keep = |uid, now| {
        let file = File::open("/dev/null").expect("/dev/null");
        let memory = Arc::new(Intrusive { file, stock: Arc::downgrade(&stock) });
        let released = Spare::released(Stored { memory, watch: None }, bytes, TrustDomain::Uid(Uid(uid)));
        assert!(stock.defer(released).is_ok() && stock.scrub_one(now).is_some());
    };
    keep(1, Duration::ZERO);
    keep(2, IDLE);
    keep(2, 2 * IDLE);
    let counters = stock.counters();
    assert_eq!((counters.pooled_bytes, counters.discarded.total()), (2 * MIB, 0), "the first one was stale");
    assert!(stock.take(bytes, 1, &TrustDomain::Uid(Uid(1)), 2 * IDLE).spares.is_empty());
}

#[test]
fn the_stock_is_not_locked_while_memory_is_scrubbed() {
    let stock = Arc::new(Stock::new(ShelfLimits { bytes: MIB, spares: 1 }));
    let file = File::open("/dev/null").expect("/dev/null");
    let memory = Arc::new(Intrusive { file, stock: Arc::downgrade(&stock) });
    let bytes = needs(MIB).bytes.round_up(1).expect("valid");
    let released = Spare::released(Stored { memory, watch: None }, bytes, TrustDomain::Uid(Uid(1)));
    assert!(stock.defer(released).is_ok());
    assert_eq!(stock.scrub_one(Duration::ZERO), Some(Retired { buffers: 1, bytes: MIB }));
    assert_eq!((stock.counters().pooled_bytes, stock.counters().discarded.total()), (MIB, 0));
}
