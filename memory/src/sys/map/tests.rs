// SPDX-License-Identifier: Apache-2.0
//! Tests mappings of memfds.

use super::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Returns a zeroed file on no file system.
pub(crate) fn memfd(bytes: u64) -> File {
    let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).expect("memfd"));
    file.set_len(bytes).expect("memfd");
    file
}

#[test]
fn reading_returns_the_written_byte_and_one_nonzero_byte_is_noticed() {
    let fd = memfd(8192);
    let map = SharedMap::new(&fd, 8191, Access::ReadWrite).expect("mapped");
    assert!(map.is_zero());
    map.write_at(8190, &[7]).expect("inside");
    assert!(!map.is_zero());
    let mut byte = [0];
    map.read_at(8190, &mut byte).expect("inside");
    assert_eq!(byte, [7]);
    map.fill(0).expect("writable");
    assert!(map.is_zero());
}

#[test]
fn every_alignment_and_length_round_trips_and_touches_nothing_else() {
    let fd = memfd(4096);
    let map = SharedMap::new(&fd, 61, Access::ReadWrite).expect("mapped");
    let data: Vec<u8> = (1..=61).collect();
    for offset in 0..=map.len() {
        for len in 0..=map.len() - offset {
            map.fill(0).expect("writable");
            map.write_at(offset, &data[..len]).expect("inside");
            let mut found = [0; 61];
            map.read_at(0, &mut found).expect("inside");
            assert!(found[..offset].iter().chain(&found[offset + len..]).all(|byte| *byte == 0));
            let mut part = vec![0; len];
            map.read_at(offset, &mut part).expect("inside");
            assert_eq!(part, data[..len]);
            assert_eq!(found[offset..offset + len], data[..len]);
        }
    }
}

#[test]
fn a_populated_mapping_is_zero_and_has_all_its_pages() {
    for bytes in [4096, LARGE + (64 << 10)] {
        let fd = memfd(bytes as u64);
        let map = SharedMap::populated(&fd, bytes).expect("mapped");
        assert!(fd.metadata().expect("open").blocks() * 512 >= bytes as u64);
        assert!(map.is_zero());
        map.fill(1).expect("writable");
    }
}

#[test]
fn a_range_is_filled_and_nothing_else() {
    let fd = memfd(8192);
    let map = SharedMap::sparse(&fd, 8192).expect("mapped");
    map.fill(7).expect("writable");
    map.fill_at(1000, 5000, 0).expect("inside");
    let mut found = [0; 8192];
    map.read_at(0, &mut found).expect("inside");
    assert!(found[1000..6000].iter().all(|byte| *byte == 0));
    assert!(found[..1000].iter().chain(&found[6000..]).all(|byte| *byte == 7));
    assert!(map.fill_at(8192, 1, 0).is_err() && map.fill_at(1, usize::MAX, 0).is_err());
}

#[test]
fn a_detached_range_leaves_the_file_alone_and_the_rest_does_not() {
    let fd = memfd(3 * 4096);
    let map = SharedMap::sparse(&fd, 3 * 4096).expect("mapped");
    map.fill(7).expect("writable");
    map.detach(4096, 4096).expect("inside");
    map.fill(9).expect("still writable");
    let other = SharedMap::sparse(&fd, 3 * 4096).expect("mapped");
    let mut found = [0; 2 * 4096];
    other.read_at(4096, &mut found).expect("inside");
    assert!(found[..4096].iter().all(|byte| *byte == 7), "written to the file after it was detached");
    assert!(found[4096..].iter().all(|byte| *byte == 9));
    assert!(map.detach(8192, 8192).is_err() && map.detach(0, 0).is_err());
}

#[test]
fn a_device_without_a_size_is_mapped_as_far_as_its_driver_allows() {
    let device = |path: &str| std::fs::File::options().read(true).write(true).open(path).expect("open");
    let map = SharedMap::new(device("/dev/zero"), 8192, Access::ReadWrite).expect("mapped");
    assert!(map.is_zero());
    map.fill(1).expect("writable");
    assert!(SharedMap::new(device("/dev/null"), 8192, Access::ReadWrite).is_err());
}

#[test]
fn ranges_and_lengths_outside_are_refused() {
    let fd = memfd(4096);
    assert!(SharedMap::new(&fd, 0, Access::ReadWrite).is_err());
    assert!(SharedMap::new(&fd, 4097, Access::ReadWrite).is_err());
    let map = SharedMap::new(&fd, 4096, Access::ReadOnly).expect("mapped");
    assert!(map.read_at(4096, &mut [0]).is_err());
    assert!(map.read_at(usize::MAX, &mut [0]).is_err());
    assert_eq!(map.write_at(0, &[1]).expect_err("read-only").kind(), io::ErrorKind::PermissionDenied);
}
