// SPDX-License-Identifier: Apache-2.0
//! SIGHUP: the configuration is read again, while clients hold buffers and connections.

use crate::place::{Daemon, Place, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;
use std::fs;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;

const HEAPS: &str = r#"system { type = "system"; heap-id = <25>; device = "memfd"; };"#;

fn tree(heaps: &str, policy: &str) -> String {
    format!("/dts-v1/; / {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} {policy} }}; }};")
}

/// Asks the service to read its configuration again, and waits until it said this `count` times.
fn reload(place: &Place, daemon: &Daemon, said: &str, count: usize) {
    kill(daemon.pid(), Signal::SIGHUP).expect("sent");
    eventually("it is read again", || {
        let logged = place.logged();
        assert!(!logged.contains("the service ends"), "{logged}");
        (logged.matches(said).count() >= count).then_some(())
    });
}

fn quota(buffers: u32) -> String {
    let uid = geteuid();
    format!("clients {{ tests {{ uids = <{uid}>; max-buffers = <{buffers}>; }}; }};")
}

fn request(count: i32) -> AllocationRequest {
    AllocationRequest {
        size: 4096,
        count,
        heapNames: vec!["system".to_owned()],
        ..AllocationRequest::default()
    }
}

#[test]
fn limits_change_and_what_clients_have_stays() {
    let place = Place::new();
    let file = place.directory.path().join("heaps.dts");
    fs::write(&file, tree(HEAPS, &quota(2))).expect("written");
    let daemon = place.start(&["--config", file.to_str().expect("text")]);
    let client = place.connect().expect("connected");
    let service = &client.service;
    let held = service.allocate(&request(2)).expect("within");
    service.allocate(&request(1)).expect_err("beyond the quota");

    let with = |text: &str, said: &str, count: usize| {
        fs::write(&file, text).expect("written");
        reload(&place, &daemon, said, count);
    };
    let applied = "SIGHUP: the limits of clients now come from the configuration";
    with(&tree(HEAPS, &quota(3)), applied, 1);
    let more = service.allocate(&request(1)).expect("within the new one");
    let fd = held.buffers[0].fd.as_ref().expect("there");
    assert_eq!(service.describe(fd).expect("known").id, held.buffers[0].id);

    let other = HEAPS.replace("memfd", "auto") + r#"camera { type = "system"; heap-id = <3>; };"#;
    with(&tree(&other, &quota(2)), applied, 2);
    for said in ["heap camera is new", "heap system has other values of device"] {
        let said = format!("SIGHUP: {said}; that takes effect at the next start of the service");
        assert!(place.logged().contains(&said), "{}", place.logged());
    }
    assert_eq!(service.listHeaps().expect("answered").len(), 1);
    drop(more);
    service.allocate(&request(1)).expect_err("the limit is what it was");

    for (count, bad) in (1..).zip(["/ {", &tree("", "")]) {
        with(bad, "SIGHUP: the configuration stays as it was", count);
    }
    drop(held);
    service.allocate(&request(2)).expect("served on");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
}

#[test]
fn a_configuration_in_a_directory_is_read_again_by_a_confined_service() {
    let place = Place::new();
    let node = place.directory.path().join("tree").join("anion");
    let system = node.join("system");
    fs::create_dir_all(&system).expect("made");
    fs::write(node.join("compatible"), "anion,heaps-v1\0").expect("written");
    fs::write(system.join("type"), "system\0").expect("written");
    fs::write(system.join("heap-id"), 25_u32.to_be_bytes()).expect("written");
    let tree = place.directory.path().join("tree");
    let daemon = place.start_command(
        place.daemon(&["--config", tree.to_str().expect("text")]).env("ANION_SECCOMP", "built-in"),
    );
    fs::write(system.join("pool-limit"), 4096_u32.to_be_bytes()).expect("written");
    reload(&place, &daemon, "SIGHUP: heap system has other values of pool-limit", 1);
    place.connect().expect("connected").service.listHeaps().expect("served on");
}
