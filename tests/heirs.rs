// SPDX-License-Identifier: Apache-2.0
//! Tests that a child which inherited a buffer prevents its reuse. There is only one test, because
//! a process that starts children shares the descriptors of all its tests with them until they
//! execute a program.

use anion::testing::{
    Allocator, Caller, Count, Failure, Grant, Label, Needs, Request, RequestedBytes, Selection, Uid,
    WatchedCgroup, inode, load, page_size,
};
use anion_memory::Access;
use anion_memory::map::SharedMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Longest time for a thread of lowest priority on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// A client may have one buffer, so that no request succeeds while it is held.
const HEAPS: &str = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <1>; device = "memfd"; deferred-free; };
    clients { max-buffers = <1>; }; }; };"#;

fn request() -> Request {
    let bytes = RequestedBytes(i64::try_from(MIB).expect("small"));
    Request {
        needs: Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: Access::ReadWrite },
        count: Count::new(1).expect("valid"),
        selection: Selection::Names(vec!["system".to_owned()]),
        label: Label::new("heir").expect("valid"),
        unzeroed: false,
        metadata: None,
    }
}

fn map(grant: &Grant) -> SharedMap {
    SharedMap::new(&grant.fd, MIB, Access::ReadWrite).expect("mapped")
}

#[test]
fn a_buffer_that_a_child_inherited_is_not_handed_out_before_the_child_ends() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(HEAPS.as_bytes()).expect("written");
    let loaded = load(file.path(), page_size().expect("page size")).expect("readable");
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let allocator = Allocator::new(loaded.config, &WatchedCgroup::None).expect("an allocator");
    // Under memory pressure, pooled memory is returned at once, and then the test shows nothing.
    let start = Instant::now();
    while !is_recycled_after_its_heir(&allocator) {
        assert!(start.elapsed() < PATIENCE, "never recycled: {:?}", allocator.stats()[0].pool);
    }
}

/// Returns whether the buffer that a child inherited was reused after the child's end. It must not
/// be reused before.
fn is_recycled_after_its_heir(allocator: &Allocator) -> bool {
    let caller = Caller { uid: Uid(1000), pid: 1, context: None };
    let grant = allocator.allocate(&caller, &request()).expect("room").remove(0);
    let file = inode(&grant.fd).expect("inode");
    map(&grant).fill(0x11).expect("writable");
    let mut heir = Command::new("cat").stdin(Stdio::piped()).stdout(grant.fd).spawn().expect("cat");
    let refused = allocator.allocate(&caller, &request()).expect_err("the child has it");
    assert_eq!(refused.failure(), Some(Failure::QuotaExceeded));
    assert_eq!(allocator.usage(&caller)[0].buffers, 1);

    drop(heir.stdin.take());
    assert!(heir.wait().expect("a child").success());
    // First it is no longer charged to its owner, and then it is cleaned.
    let start = Instant::now();
    while allocator.usage(&caller)[0].buffers > 0 || allocator.stats()[0].counters.deferred_bytes > 0 {
        assert!(start.elapsed() < PATIENCE, "not cleaned: {:?}", allocator.stats()[0].counters);
        std::thread::sleep(Duration::from_millis(1));
    }
    let again = allocator.allocate(&caller, &request()).expect("room").remove(0);
    assert!(map(&again).is_zero());
    let is_recycled = inode(&again.fd).expect("inode") == file;
    drop(again);
    is_recycled
}
