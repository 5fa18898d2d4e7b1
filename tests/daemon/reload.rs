// SPDX-License-Identifier: Apache-2.0
//! Tests SIGHUP: the service reads the configuration again, while clients hold buffers and
//! connections.

use crate::place::{Daemon, Place, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, User, geteuid};
use std::fs;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;

const HEAPS: &str = r#"system { type = "system"; heap-id = <25>; device = "memfd"; };"#;

fn tree(heaps: &str, policy: &str) -> String {
    format!("/dts-v1/; / {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} {policy} }}; }};")
}

/// Sends SIGHUP, and waits until the service has logged `said` `count` times.
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

/// At the start, the service itself resolves names; at SIGHUP, the process does that it started
/// before it installed its filter.
#[test]
fn names_of_users_and_groups_are_looked_up_again_by_a_confined_service() {
    let user = User::from_uid(geteuid()).expect("read").expect("the tests' user has a name");
    let group = Group::from_gid(user.gid).expect("read").expect("the user's group has a name").name;
    let named = |who: &str, buffers: u32| {
        tree(
            HEAPS,
            &format!("clients {{ max-buffers = <1>; tests {{ {who}; max-buffers = <{buffers}>; }}; }};"),
        )
    };
    let by_user = format!("users = \"{}\"", user.name);
    let by_group = format!("groups = \"{group}\"");
    let place = Place::new();
    let file = place.directory.path().join("heaps.dts");
    fs::write(&file, named(&by_user, 2)).expect("written");
    let command = &mut place.daemon(&["--config", file.to_str().expect("text")]);
    let daemon = place.start_command(command.env("ANION_SECCOMP", "built-in"));
    let client = place.connect().expect("connected");
    let service = &client.service;
    drop(service.allocate(&request(2)).expect("within"));
    service.allocate(&request(3)).expect_err("beyond the quota");

    let applied = "SIGHUP: the limits of clients now come from the configuration";
    let with = |who: &str, buffers: u32, count: usize| {
        fs::write(&file, named(who, buffers)).expect("written");
        reload(&place, &daemon, applied, count);
    };
    with(&by_group, 3, 1);
    drop(service.allocate(&request(3)).expect("within the group's"));
    with("users = \"no-such-user\"", 4, 2);
    let said = "error: /anion/clients/tests: users: this machine has no user \"no-such-user\"";
    assert!(place.logged().contains(said), "{}", place.logged());
    service.allocate(&request(2)).expect_err("the client is left out");
    with(&by_user, 5, 3);
    drop(service.allocate(&request(5)).expect("within"));

    // Without the process, every name is an error, and the service continues to serve.
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = fs::read_to_string(children).expect("of a child of the tests");
    let [lookup] = children.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{children:?}") };
    let descriptors = fs::read_dir(format!("/proc/{lookup}/fd")).expect("of the same user");
    assert_eq!(descriptors.count(), 3, "it has inherited what is not its own");
    kill(Pid::from_raw(lookup.parse().expect("a number")), Signal::SIGKILL).expect("sent");
    with(&by_user, 6, 4);
    let said = format!("users: user \"{}\" cannot be looked up: the process that looks up names", user.name);
    assert!(place.logged().contains(&said), "{}", place.logged());
    drop(service.allocate(&request(1)).expect("served on"));
}

#[test]
fn the_process_that_looks_names_up_ends_with_the_service() {
    let place = Place::new();
    let daemon = place.start_command(place.daemon(&[]).env("ANION_SECCOMP", "built-in"));
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = fs::read_to_string(children).expect("of a child of the tests");
    let lookup = format!("/proc/{}/exe", children.trim());
    assert!(fs::read_link(&lookup).expect("it runs").ends_with("aniond"), "{children:?}");
    kill(daemon.pid(), Signal::SIGKILL).expect("sent");
    eventually("it ends", || fs::read_link(&lookup).is_err().then_some(()));
}
