// SPDX-License-Identifier: Apache-2.0
//! What the process is started in: limits, namespaces, directories. It serves with less, or says what is in the way.

use crate::place::{Place, program};
use nix::unistd::geteuid;
use std::fs;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;

fn request(size: i64) -> AllocationRequest {
    AllocationRequest { size, count: 1, heapNames: vec!["system".to_owned()], ..AllocationRequest::default() }
}

#[test]
fn a_limit_on_file_sizes_refuses_what_is_larger_and_nothing_else() {
    let place = Place::new();
    let file = place.directory.path().join("heaps.dts");
    let tree = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
        system { type = "system"; heap-id = <25>; device = "memfd"; };
        camera { type = "carveout"; heap-id = <20>; size = <0x4000000>; }; }; };"#;
    fs::write(&file, tree).expect("written");
    let mut limited = place.command("sh");
    // In units of 512 or 1024 bytes: 4 or 8 MiB.
    limited.args(["-c", "ulimit -f 8192 && exec \"$0\" \"$@\""]).arg(program());
    let _daemon = place.start_command(limited.arg("--socket").arg(place.socket()).arg("--config").arg(&file));
    let client = place.connect().expect("connected");
    let service = &client.service;
    service.allocate(&request(1 << 20)).expect("within the limit");
    let refused = service.allocate(&request(32 << 20)).expect_err("beyond the limit").to_string();
    assert!(refused.contains("RLIMIT_FSIZE; ulimit -f, LimitFSIZE="), "{refused}");
    service.allocate(&request(1 << 20)).expect("it serves on");
    let heaps = service.listHeaps().expect("answered");
    let camera = heaps.iter().find(|heap| heap.name == "camera").expect("it is listed");
    assert!(camera.unavailableReason.contains("RLIMIT_FSIZE"), "{}", camera.unavailableReason);
}

#[test]
fn a_long_name_of_the_directory_for_temporary_files_is_no_obstacle() {
    let place = Place::new();
    let long = place.directory.path().join("t".repeat(100));
    fs::create_dir(&long).expect("made");
    let _daemon = place.start_command(place.daemon(&[]).env("TMPDIR", &long));
    place.connect().expect("connected").service.listHeaps().expect("answered");
    assert_eq!(fs::read_dir(&long).expect("readable").count(), 0, "nothing is left there");
}

#[test]
fn core_dumps_have_no_buffers_in_them() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", daemon.pid())).expect("readable");
    assert_eq!(filter.trim(), "00000011", "private anonymous pages and the headers of programs");
}

#[test]
fn users_that_a_user_namespace_does_not_map_are_refused() {
    let place = Place::new();
    let mut unmapped = place.command("unshare");
    unmapped.args(["--user", "--"]).arg(program());
    let _daemon = place.start_command(unmapped.arg("--socket").arg(place.socket()));
    assert!(place.connect().is_err(), "uid {} has no mapping there", geteuid());
    let complaint = "stands for all users whom the service's user namespace does not map";
    assert!(place.logged().contains(complaint), "{}", place.logged());
}
