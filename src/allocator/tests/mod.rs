// SPDX-License-Identifier: Apache-2.0
//! The use cases over real memfds, leases and inotify, and over a source that fails on command.

mod adopt;
// They need rustix with its sockets, which Android trees do not have; VTS tests the same attacks.
#[cfg(not(soong))]
mod attacks;
mod blocks;
#[cfg(not(soong))]
mod carry;
mod devices;
mod dma_bufs;
mod in_call;
mod metadata;
mod pool;
mod refill;
mod replies;
mod reserve;
pub(crate) mod token;
mod types;

use super::*;
use crate::config::spec::{ClientPolicy, HeapSpec, Quota};
use crate::heap::Needs;
use crate::source::scripted::{Script, ScriptedSource};
use crate::source::{Capabilities, File, FileSource, Memory, Source, SourceError};
use crate::sys::map::SharedMap;
use crate::units::{Access, BackedBytes, Backing, Count, HeapMask, HeapType, Label, RequestedBytes};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Longest time that a thread of lowest priority may need for its work on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns a camera carveout of 4 MiB above an unlimited system heap; uids may hold 8 MiB and 100
/// buffers.
fn config() -> Config {
    let heaps = vec![
        HeapSpec::plain(2, "camera", HeapType::Carveout, Some(4 * MIB)),
        HeapSpec::plain(0, "system", HeapType::System, None),
    ];
    let default = Quota { max_bytes: Some(8 * MIB), max_buffers: Some(100) };
    Config { heaps, policy: Policy { default, clients: vec![] }, graphics: vec![] }
}

/// Returns an allocator without a reaper thread, so that a test can check each step.
fn still(config: Config) -> Arc<Allocator> {
    scripted(config).0
}

fn scripted(config: Config) -> (Arc<Allocator>, Arc<Script>) {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let source =
        ScriptedSource { inner: MemfdSource::new(page).expect("memfd"), script: Arc::clone(&script) };
    let machine = Machine::plain(page, 1024 * MIB, Arc::new(source));
    (Allocator::with_machine(config, machine).expect("allocator"), script)
}

fn caller(uid: u32) -> Caller {
    Caller { uid: Uid(uid), pid: 4321, context: None }
}

fn request(mask: u32, count: i32, bytes: u64) -> Request {
    let bytes = RequestedBytes(i64::try_from(bytes).expect("small"));
    Request {
        needs: Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: Access::ReadWrite },
        count: Count::new(count).expect("valid"),
        selection: Selection::Mask(HeapMask(mask)),
        label: Label::new("test").expect("valid"),
        unzeroed: false,
        metadata: None,
    }
}

fn names(names: &[&str]) -> Selection {
    Selection::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Waits until `condition` holds; panics if it does not within [`PATIENCE`].
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the bytes and buffers that are charged to `uid`.
fn charged(allocator: &Allocator, uid: u32) -> (u64, u64) {
    let usage = &allocator.usage(&caller(uid))[0];
    (usage.bytes, usage.buffers)
}

/// Waits until `uid` holds `buffers`.
fn await_held(allocator: &Allocator, uid: u32, buffers: u64) {
    eventually("releases are noticed", || allocator.usage(&caller(uid))[0].buffers == buffers);
}

#[test]
fn the_highest_id_serves_first_and_the_next_takes_over() {
    let allocator = still(config());
    let first = allocator.allocate(&caller(1), &request(u32::MAX, 1, 3 * MIB)).expect("camera");
    assert_eq!(first[0].heap_name.as_str(), "camera");
    let second = allocator.allocate(&caller(1), &request(u32::MAX, 1, 3 * MIB)).expect("system");
    assert_eq!(second[0].heap_name.as_str(), "system");
    assert!(second[0].id > first[0].id);
}

#[test]
fn names_are_tried_in_the_order_given() {
    let allocator = still(config());
    let by_name = Request { selection: names(&["system", "camera"]), ..request(0, 1, PAGE) };
    assert_eq!(allocator.allocate(&caller(1), &by_name).expect("served")[0].heap_name.as_str(), "system");
}

#[test]
fn buffers_are_zero_mapped_and_writable() {
    let allocator = still(config());
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 4, 8 * PAGE + 1)).expect("served");
    for grant in &grants {
        assert_eq!(grant.bytes.get(), 9 * PAGE);
        let map = SharedMap::new(&grant.fd, 9 * 4096, Access::ReadWrite).expect("mapped");
        assert!(map.is_zero());
        map.fill(0xa5).expect("writable");
    }
}

#[test]
fn a_batch_that_does_not_fit_one_heap_goes_to_the_next_whole() {
    let allocator = still(config());
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 5, MIB)).expect("five of four MiB");
    assert!(grants.iter().all(|grant| grant.heap_name.as_str() == "system"));
    let failed = allocator.allocate(&caller(1), &request(4, 5, MIB)).expect_err("the camera heap alone");
    assert_eq!(failed.failure(), Some(Failure::NoMemory));
    assert_eq!(failed.verdicts[0].fits_bytes, 3 * MIB / 5 / PAGE * PAGE, "three MiB of quota are left");
}

#[test]
fn errors_follow_ion_the_last_heap_tried_decides() {
    let allocator = still(config());
    let fails =
        |uid, request: Request| allocator.allocate(&caller(uid), &request).expect_err("refused").failure();
    assert_eq!(fails(1, request(1 << 7, 1, PAGE)), Some(Failure::UnknownHeap));
    assert_eq!(
        fails(1, Request { selection: names(&["nope"]), ..request(0, 1, PAGE) }),
        Some(Failure::UnknownHeap)
    );
    assert_eq!(fails(1, request(4, 1, 5 * MIB)), Some(Failure::NoMemory), "larger than the heap");
    assert_eq!(fails(1, request(1, 1, 9 * MIB)), Some(Failure::QuotaExceeded));
    assert_eq!(fails(1, request(u32::MAX, 1, 9 * MIB)), Some(Failure::QuotaExceeded), "system is tried last");
    let dma_buf =
        Request { needs: Needs { dma_buf: true, ..request(0, 1, PAGE).needs }, ..request(u32::MAX, 1, PAGE) };
    assert_eq!(fails(1, dma_buf), Some(Failure::Unsupported));
    assert_eq!(allocator.usage(&caller(1))[0].bytes, 0);
    assert_eq!(allocator.stats()[0].counters.failed(crate::ledger::FailureCause::NoMemory), 2);
}

#[test]
fn a_closed_heap_is_passed_over_and_named_when_alone() {
    let mut config = config();
    config.heaps[0].allow_uids = Some(vec![Uid(1047)]);
    let allocator = still(config);
    let passed = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("system");
    assert_eq!(passed[0].heap_name.as_str(), "system");
    let denied = allocator.allocate(&caller(1), &request(4, 1, PAGE)).expect_err("camera alone");
    assert_eq!(denied.failure(), Some(Failure::NotPermitted));
    assert_eq!(allocator.allocate(&caller(1047), &request(4, 1, PAGE)).expect("admitted").len(), 1);
}

#[test]
fn explain_says_what_allocate_does_and_changes_nothing() {
    let allocator = still(config());
    for asked in
        [request(u32::MAX, 1, PAGE), request(4, 5, MIB), request(1 << 9, 1, PAGE), request(4, 1, 9 * MIB)]
    {
        allocator.work_off_events();
        let before = allocator.stats()[0].counters;
        let explained = allocator.explain(&caller(1), &asked);
        assert_eq!(allocator.stats()[0].counters, before);
        match allocator.allocate(&caller(2), &asked) {
            Ok(grants) => {
                assert_eq!(explained.chosen().expect("chosen").heap_name, grants[0].heap_name.as_str())
            }
            Err(failed) => {
                assert_eq!(explained.failure(), failed.failure());
                assert_eq!(explained.to_string().replace("uid 1", "uid 2"), failed.to_string());
            }
        }
    }
}

#[test]
fn a_client_that_closes_and_asks_again_at_once_is_served() {
    let allocator = still(config());
    for _ in 0..50 {
        let grants = allocator.allocate(&caller(1), &request(u32::MAX, 2, 4 * MIB)).expect("the whole quota");
        drop(grants);
    }
}

#[test]
fn the_reaper_takes_back_what_is_closed_in_any_way() {
    let allocator = still(config());
    allocator.start_reaper().expect("thread");
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 8, PAGE)).expect("served");
    let mut copies: Vec<_> = grants.iter().map(|grant| grant.fd.try_clone().expect("dup")).collect();
    let map = SharedMap::new(&grants[0].fd, 4096, Access::ReadWrite).expect("mapped");
    drop(grants);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(allocator.usage(&caller(1))[0].buffers, 8, "duplicates hold them");
    copies.truncate(1);
    copies.clear();
    await_held(&allocator, 1, 1);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(allocator.usage(&caller(1))[0].buffers, 1, "the mapping holds one");
    drop(map);
    await_held(&allocator, 1, 0);
    // It leaves its owner's account first, and the heap's once its memory is returned.
    eventually("the kernel has the memory", || allocator.stats()[0].counters.buffers == 0);
    let counters = allocator.stats()[0].counters;
    assert_eq!((counters.allocations, counters.frees, counters.buffers, counters.bytes), (8, 8, 0, 0));
}

#[test]
fn a_buffer_opened_again_by_its_holder_is_not_taken_back() {
    let allocator = still(config());
    allocator.start_reaper().expect("thread");
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("served");
    let directory = crate::sys::fd::DescriptorDirectory::open().expect("/proc");
    let again = directory.reopen(&grants[0].fd, Access::ReadOnly).expect("own uid");
    drop(grants);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(allocator.usage(&caller(1))[0].buffers, 1);
    drop(again);
    await_held(&allocator, 1, 0);
}

#[test]
fn an_overflowed_event_queue_is_survived() {
    let allocator = still(config());
    let mut grants = allocator.allocate(&caller(1), &request(u32::MAX, 40, PAGE)).expect("served");
    let kept = grants.split_off(38);
    // The kernel merges equal adjacent events, so two files take turns; no thread reads the queue
    // meanwhile.
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("readable");
    let limit: usize = limit.trim().parse().expect("a number");
    let directory = crate::sys::fd::DescriptorDirectory::open().expect("/proc");
    for turn in 0..=limit {
        drop(directory.reopen(&kept[turn % 2].fd, Access::ReadOnly).expect("own uid"));
    }
    drop(grants);
    allocator.start_reaper().expect("thread");
    await_held(&allocator, 1, 2);
}

#[test]
fn a_failure_of_any_source_call_leaves_everything_as_before() {
    let (allocator, script) = scripted(config());
    let asked = request(u32::MAX, 3, PAGE);
    for (errno, failure) in
        [(libc::ENOMEM, Failure::NoMemory), (libc::EMFILE, Failure::NoMemory), (libc::EIO, Failure::Backend)]
    {
        // Each heap is tried, so only a failure of the last one is visible: request the system heap
        // only.
        let asked = Request { selection: names(&["system"]), ..asked.clone() };
        let mut calls = 0;
        loop {
            let (before, files) = (allocator.stats()[1].counters, script.files());
            // An exhausted source is tried twice, so the failure stays.
            script.fail(calls..usize::MAX, errno);
            match allocator.allocate(&caller(1), &asked) {
                Ok(_) => break,
                Err(failed) => assert_eq!(failed.failure(), Some(failure), "call {calls}"),
            }
            let after = allocator.stats()[1].counters;
            assert_eq!(
                (after.buffers, after.bytes, after.allocations),
                (before.buffers, before.bytes, before.allocations)
            );
            assert_eq!(allocator.usage(&caller(1))[0].bytes, 0);
            assert_eq!(script.files(), files, "call {calls} of errno {errno}");
            calls += 1;
        }
        assert_eq!(calls, 6, "create and open, three times");
        script.fail(0..0, 0);
        allocator.work_off_events();
        allocator.reclaim_from(&caller(1));
    }
}

#[test]
fn exhaustion_is_tried_once_more_after_looking_for_releases() {
    let (allocator, script) = scripted(config());
    script.fail(0..1, libc::EMFILE);
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("the second attempt");
    assert_eq!(grants[0].heap_name.as_str(), "camera");
}

#[test]
fn a_source_failure_falls_back_to_the_next_heap() {
    let (allocator, script) = scripted(config());
    script.fail(0..1, libc::EIO);
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("system");
    assert_eq!(grants[0].heap_name.as_str(), "system");
    assert_eq!(allocator.stats()[0].counters.failed(crate::ledger::FailureCause::Backend), 1);
}

/// A source whose next call waits at a gate, if it has one.
struct GatedSource {
    inner: MemfdSource,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Source for GatedSource {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(self.create_file(bytes, name)?)
    }
}

impl FileSource for GatedSource {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn create_file(&self, bytes: BackedBytes, name: &str) -> io::Result<Box<dyn File>> {
        let gate = self.gate.lock().expect("not poisoned").take();
        if let Some(gate) = gate {
            gate.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
        self.inner.create_file(bytes, name)
    }

    fn open_file(&self, fd: BorrowedFd<'_>, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        self.inner.open_file(fd, bytes)
    }
}

#[test]
fn a_slow_source_holds_up_its_own_request_alone() {
    let page = crate::sys::memory::page_size().expect("page size");
    let source =
        Arc::new(GatedSource { inner: MemfdSource::new(page).expect("memfd"), gate: Mutex::default() });
    let machine = Machine::plain(page, 1024 * MIB, Arc::<GatedSource>::clone(&source) as Arc<dyn FileSource>);
    let allocator = Allocator::with_machine(config(), machine).expect("allocator");
    let (open, gate) = mpsc::channel();
    *source.gate.lock().expect("not poisoned") = Some(gate);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)));
        while source.gate.lock().expect("not poisoned").is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        allocator.allocate(&caller(2), &request(u32::MAX, 1, PAGE)).expect("served meanwhile");
        open.send(()).expect("the slow one still waits");
        slow.join().expect("no panic").expect("served");
    });
}

#[test]
fn describe_knows_its_buffers_by_any_descriptor_and_no_others() {
    let allocator = still(config());
    let grant = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("served").remove(0);
    let copy = grant.fd.try_clone().expect("dup");
    let view = allocator.describe(&copy).expect("ours");
    assert_eq!((view.record.id, view.record.uid, view.record.pid), (grant.id, Uid(1), 4321));
    assert_eq!(view.record.label.as_str(), "test");
    let stranger =
        crate::sys::memfd::MemfdFactory::probe().expect("memfd").create("stranger", PAGE).expect("memfd");
    assert!(allocator.describe(&stranger).is_err());
    let (pipe, _other_end) = nix::unistd::pipe().expect("pipe");
    assert!(allocator.describe(&pipe).is_err());
    drop(grant);
    assert!(allocator.describe(&copy).is_ok(), "the copy keeps it alive");
}

#[test]
fn only_the_privileged_see_others_and_trim() {
    let mut config = config();
    config.policy.clients.push(ClientPolicy {
        name: "media".to_owned(),
        uids: vec![Uid(1013)],
        quota: Quota::default(),
        privileged: true,
        reserves: vec![],
    });
    let allocator = still(config);
    let held = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("served");
    let _others = allocator.allocate(&caller(2), &request(u32::MAX, 1, PAGE)).expect("served");
    assert_eq!(allocator.usage(&caller(1)).len(), 1);
    assert_eq!(allocator.buffers(&caller(1)).len(), 1);
    assert_eq!(allocator.usage(&caller(1013)).len(), 2);
    assert_eq!(allocator.buffers(&caller(0)).len(), 2);
    assert!(matches!(allocator.trim(&caller(1), None, 0), Err(TrimError::Denied(_))));
    assert_eq!(allocator.trim(&caller(1013), Some("camera"), 0), Ok(0));
    assert!(matches!(allocator.trim(&caller(0), Some("nope"), 0), Err(TrimError::UnknownHeap(_))));
    drop(held);
}

#[test]
fn read_only_descriptors_cannot_be_mapped_writable() {
    let allocator = still(config());
    let mut asked = request(u32::MAX, 1, PAGE);
    asked.needs.access = Access::ReadOnly;
    let grants = allocator.allocate(&caller(1), &asked).expect("served");
    assert!(SharedMap::new(&grants[0].fd, 4096, Access::ReadWrite).is_err());
    assert!(SharedMap::new(&grants[0].fd, 4096, Access::ReadOnly).expect("mapped").is_zero());
}
