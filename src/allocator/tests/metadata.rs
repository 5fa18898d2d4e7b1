// SPDX-License-Identifier: Apache-2.0
//! Buffers of images: their metadata files are charged and released with them.

use super::*;
use crate::allocator::{Graphic, Metadata, Record};
use crate::source::ReleaseMechanism;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

const GRAPHIC: Graphic = Graphic { width: 64, height: 64, format: 1, usage: 0x33 };

/// Returns a request to the system heap for `count` images of a page, with two pages of metadata
/// each.
pub(super) fn images(count: i32) -> Request {
    let bytes = RequestedBytes(8192).round_up(PAGE).expect("two pages");
    let metadata = Metadata { graphic: GRAPHIC, bytes, initial: b"begins".to_vec() };
    Request { selection: names(&["system"]), metadata: Some(metadata), ..request(0, count, PAGE) }
}

fn own(allocator: &Allocator) -> Vec<Record> {
    allocator.buffers(&caller(1)).into_iter().map(|view| view.record).collect()
}

#[test]
fn metadata_is_charged_to_the_client_and_to_no_heap() {
    let allocator = still(config());
    let grants = allocator.allocate(&caller(1), &images(2)).expect("room");
    assert!(grants.iter().all(|grant| grant.metadata.is_some()));
    assert_eq!(charged(&allocator, 1), (2 * (PAGE + 8192), 2));
    let system = allocator.stats()[1].counters;
    assert_eq!((system.buffers, system.bytes), (2, 2 * PAGE));
    let graphics: Vec<_> = own(&allocator).iter().map(|record| record.graphic.expect("an image").0).collect();
    assert_eq!(graphics, [GRAPHIC; 2]);
    drop(grants);
    assert_eq!(charged(&allocator, 1), (0, 0));
    let plain = allocator.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    assert_eq!((charged(&allocator, 1), plain[0].metadata.is_none()), ((PAGE, 1), true));
}

#[test]
fn the_quota_counts_metadata_and_no_reservation_lends_to_images() {
    let allocator = still(config());
    // 8 MiB: as many pages as buffers, and two of metadata each.
    let quota_buffers = allocator.allocate(&caller(1), &images(64)).expect("room");
    assert_eq!(charged(&allocator, 1).0, 64 * 3 * PAGE);
    drop(quota_buffers);
    let reserved = allocator
        .reserve(&caller(1), &Request { metadata: None, ..images(2) })
        .expect("room for what is reserved");
    let grants = allocator.allocate(&caller(1), &images(1)).expect("room");
    let usage = allocator.usage(&caller(1));
    assert_eq!((usage[0].bytes, usage[0].reserved_bytes), (3 * PAGE, 2 * PAGE));
    drop((grants, reserved));
    let usage = allocator.usage(&caller(1));
    assert_eq!((usage[0].bytes, usage[0].reserved_bytes), (0, 0));
}

#[test]
fn a_failure_of_any_call_for_a_file_leaves_everything_as_before() {
    let (allocator, script) = scripted(config());
    let files = script.files();
    let mut calls = 0;
    loop {
        script.fail(calls..usize::MAX, libc::EIO);
        let made = allocator.allocate(&caller(1), &images(2));
        script.fail(0..0, 0);
        let Err(failed) = made else { break };
        assert_eq!(failed.failure(), Some(Failure::Backend), "call {calls}: {failed}");
        assert_eq!((charged(&allocator, 1), script.files()), ((0, 0), files), "call {calls}");
        let system = allocator.stats()[1].counters;
        assert_eq!((system.buffers, system.bytes), (0, 0), "call {calls}");
        calls += 1;
    }
    assert!(calls >= 8, "each of two buffers and two files is made and opened: {calls} calls");
}

#[test]
fn a_request_is_reported_as_supported_while_all_memory_is_in_use() {
    let allocator = still(config());
    let _held = allocator.allocate(&caller(1), &request(1, 1, 8 * MIB)).expect("the whole quota");
    let image = images(1);
    assert!(allocator.allocate(&caller(1), &image).is_err());
    assert!(allocator.supports(&caller(1), &image).chosen().is_some());
    let beyond = |bytes: u64| Request { metadata: image.metadata.clone(), ..request(1, 1, bytes) };
    let too_much = allocator.supports(&caller(1), &beyond(8 * MIB));
    assert_eq!(too_much.failure(), Some(Failure::QuotaExceeded), "{too_much}");
    assert!(allocator.supports(&caller(1), &beyond(8 * MIB - 8192)).chosen().is_some());
    let too_large =
        allocator.supports(&caller(1), &Request { selection: names(&["camera"]), ..beyond(5 * MIB) });
    assert!(too_large.chosen().is_none(), "{too_large}");
}

#[test]
fn a_buffer_is_released_with_the_last_of_its_files_whichever_that_is() {
    let allocator = still(config());
    assert_eq!(allocator.heaps()[1].release_mechanism(), ReleaseMechanism::CloseEvents);
    let image = || {
        let grants = allocator.allocate(&caller(1), &images(1)).expect("room");
        let [grant] = <[_; 1]>::try_from(grants).expect("one");
        (grant.fd, grant.metadata.expect("a metadata file"))
    };
    let held_after_events = || {
        allocator.work_off_events();
        charged(&allocator, 1).1
    };
    let (buffer, metadata) = image();
    drop(metadata);
    assert_eq!(held_after_events(), 1);
    drop(buffer);
    assert_eq!(held_after_events(), 0);

    let (buffer, metadata) = image();
    drop((buffer, metadata));
    assert_eq!(held_after_events(), 0);

    // The service watches its closes from the first check on, so it gets an event for the last.
    let (buffer, metadata) = image();
    let copy = metadata.try_clone().expect("a descriptor");
    drop(buffer);
    for held in [metadata, copy] {
        assert_eq!(held_after_events(), 1, "its metadata is held");
        drop(held);
    }
    assert_eq!(held_after_events(), 0);
}

/// Allocates an image as `uid`, and returns its files.
fn image_of(allocator: &Allocator, uid: u32) -> (OwnedFd, File) {
    let grants = allocator.allocate(&caller(uid), &images(1)).expect("room");
    let [grant] = <[_; 1]>::try_from(grants).expect("one");
    (grant.fd, grant.metadata.expect("a metadata file").into())
}

fn inode_of(file: &File) -> u64 {
    file.metadata().expect("open").ino()
}

/// Allocates an image as uid 1, fills its metadata, and releases both. Returns their inode.
fn used_metadata(allocator: &Allocator) -> u64 {
    let (buffer, metadata) = image_of(allocator, 1);
    metadata.write_all_at(&[0xff; 8192], 0).expect("written");
    let inode = inode_of(&metadata);
    drop((buffer, metadata));
    allocator.work_off_events();
    inode
}

#[test]
fn a_metadata_file_is_used_again_within_its_trust_domain_with_nothing_of_before() {
    let allocator = still(config());
    let first = used_metadata(&allocator);
    let (_other, foreign) = image_of(&allocator, 2);
    assert_ne!(inode_of(&foreign), first, "it is another uid's");
    let (buffer, metadata) = image_of(&allocator, 1);
    assert_eq!(inode_of(&metadata), first);
    let mut found = [1; 8192];
    metadata.read_exact_at(&mut found, 0).expect("two pages");
    assert!(found.starts_with(b"begins") && found[6..].iter().all(|byte| *byte == 0));
    drop((buffer, metadata));
    allocator.work_off_events();
    allocator.trim(&caller(0), None, 0).expect("root may");
    let (_buffer, metadata) = image_of(&allocator, 1);
    assert_ne!(inode_of(&metadata), first, "it was given back to the kernel");
}

#[test]
fn a_metadata_file_that_somebody_opened_again_is_not_used_again() {
    let allocator = still(config());
    let first = used_metadata(&allocator);
    let open = std::fs::read_dir("/proc/self/fd").expect("/proc").filter_map(|entry| {
        let path = entry.ok()?.path();
        (std::fs::metadata(&path).ok()?.ino() == first).then(|| File::open(&path).expect("opened again"))
    });
    let opened: Vec<File> = open.collect();
    assert!(!opened.is_empty(), "the service keeps it");
    let (_buffer, metadata) = image_of(&allocator, 1);
    assert_ne!(inode_of(&metadata), first);
}
