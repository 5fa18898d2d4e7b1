// SPDX-License-Identifier: Apache-2.0
//! Tests the environment of the process: limits, namespaces, directories. The service serves with
//! less, or reports the cause of its failure.

use crate::place::{Place, eventually, failure, program};
use anion_ipc::{OutOfDescriptors, ParcelFileDescriptor, ServiceError};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReservationRequest::ReservationRequest;

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

/// Returns a daemon that `wrapper` starts after it has prepared the environment.
fn under(place: &Place, wrapper: &[&str]) -> Command {
    let (first, rest) = wrapper.split_first().expect("a program");
    let mut command = place.command(first);
    command.args(rest).arg(program()).arg("--socket").arg(place.socket());
    command
}

#[test]
fn a_proc_that_shows_processes_alone_is_enough() {
    let place = Place::new();
    let mount = "mount -t proc -o subset=pid proc /proc && exec \"$0\" \"$@\"";
    let mut command = under(&place, &["unshare", "--mount", "--pid", "--kill-child", "sh", "-c", mount]);
    // As in the unit: the filter also permits the file that the service reads instead of
    // /proc/meminfo.
    let _daemon = place.start_command(command.env("ANION_SECCOMP", "built-in"));
    let client = place.connect().expect("connected");
    let heaps = client.service.listHeaps().expect("answered");
    assert!(heaps.iter().all(|heap| heap.available), "{:?}", place.logged());
    let held = client.service.allocate(&request(1 << 20)).expect("served");
    drop(held);
    eventually("the release is noticed", || {
        let usage = client.service.getUsage().expect("answered");
        usage.iter().all(|usage| usage.buffers == 0).then_some(())
    });
    // The service checks the free memory before it preallocates buffers.
    let ahead = ReservationRequest { size: 1 << 20, count: 1, heapName: "system".to_owned() };
    let reservation = client.service.reserve(&ahead).expect("there is room");
    eventually("the buffer is made", || (reservation.ready().expect("answered") == 1).then_some(()));
}

#[test]
fn without_proc_it_does_not_start_and_says_what_mounts_it() {
    let place = Place::new();
    let hide = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let message = failure(&mut under(&place, &["unshare", "--mount", "sh", "-c", hide]));
    assert!(
        message.contains("cannot open /proc/self/fd") && message.contains("mount -t proc proc /proc"),
        "{message}"
    );
}

#[test]
fn too_few_descriptors_or_threads_are_named_with_the_limit() {
    for limit in ["6", "16", "31"] {
        let message = failure(&mut under(&Place::new(), &["prlimit", &format!("--nofile={limit}")]));
        let wanted = format!("RLIMIT_NOFILE is {limit} (ulimit -n, LimitNOFILE=)");
        assert!(message.contains(&wanted), "{message}");
    }
    // Enough for the program of any size, and for few stacks of 2 MiB: the first limit with which
    // the loader succeeds.
    let (limit, message) = (16..64)
        .find_map(|megabytes| {
            let limit = megabytes * 1_000_000;
            let mut command = under(&Place::new(), &["prlimit", &format!("--as={limit}")]);
            let output = command.stderr(Stdio::piped()).output().expect("it runs");
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code() == Some(1)).then_some((limit, message))
        })
        .expect("it starts with less than it takes");
    assert!(message.contains(&format!("RLIMIT_AS is {limit} (ulimit -v, LimitAS=)")), "{message}");
}

#[test]
fn with_few_descriptors_a_call_is_refused_and_the_session_goes_on() {
    let place = Place::new();
    let _daemon = place.start_command(&mut under(&place, &["prlimit", "--nofile=32"]));
    let client = place.connect().expect("connected");
    let mut held = Vec::new();
    let refused = loop {
        match client.service.allocate(&request(4096)) {
            Ok(allocation) => held.push(allocation),
            Err(status) => break status,
        }
    };
    let is_lack = OutOfDescriptors::of(&refused) == Some(OutOfDescriptors::Service);
    assert!(is_lack || ServiceError::of(&refused).is_some(), "{refused}");
    // Also for descriptors that arrive with a call.
    let null = || ParcelFileDescriptor::new(fs::File::open("/dev/null").expect("opened"));
    for _ in 0..3 {
        client.service.describe(&null()).expect_err("no buffer");
    }
    held.clear();
    eventually("there is room again", || client.service.allocate(&request(4096)).ok());
}

#[test]
fn without_inotify_queues_releases_are_noticed_by_leases() {
    let place = Place::new();
    let limited = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let mut command = under(&place, &["unshare", "--user", "--map-root-user", "sh", "-c", limited]);
    let _daemon = place.start_command(&mut command);
    let client = place.connect().expect("connected");
    let held: Vec<_> = (0..3).map(|_| client.service.allocate(&request(1 << 20)).expect("served")).collect();
    assert!(client.service.getUsage().expect("answered").iter().any(|usage| usage.buffers == 3));
    drop(held);
    eventually("the releases are noticed", || {
        let usage = client.service.getUsage().expect("answered");
        usage.iter().all(|usage| usage.buffers == 0).then_some(())
    });
    let logged = place.logged();
    // Another warning may name the devices that this machine lacks.
    let is_of_inotify = |line: &&str| line.contains("WARN") && line.contains("inotify");
    let warnings: Vec<_> = logged.lines().filter(is_of_inotify).collect();
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert!(warning.contains("/proc/sys/user/max_inotify_instances is 0"), "{warning}");
}

#[test]
fn empty_variables_count_as_unset() {
    let place = Place::new();
    let mut command = place.daemon(&[]);
    let names =
        ["ANION_CONFIG", "ANION_SOCKET", "ANION_TRANSPORT", "ANION_LOG", "ANION_CGROUP", "ANION_SECCOMP"];
    for name in names.into_iter().chain(["LISTEN_FDS", "LISTEN_PID"]) {
        command.env(name, "");
    }
    let _daemon = place.start_command(&mut command);
    place.connect().expect("connected").service.listHeaps().expect("answered");
}

#[test]
fn a_socket_that_was_removed_is_bound_again_and_sessions_go_on() {
    let place = Place::new();
    let daemon = place.start_command(place.daemon(&[]).env_remove("ANION_SECCOMP"));
    let client = place.connect().expect("connected");
    let held = client.service.allocate(&request(4096)).expect("served");
    let removals: [&dyn Fn(); 4] = [
        &|| fs::remove_file(place.socket()).expect("removed"),
        // The service may create it again during the removal.
        &|| drop(fs::remove_dir_all(place.run_directory())),
        &|| fs::rename(place.socket(), place.run_directory().join("aside")).expect("moved"),
        &|| {
            let other = place.run_directory().join("other");
            drop(UnixListener::bind(&other).expect("bound"));
            fs::rename(&other, place.socket()).expect("replaced");
        },
    ];
    for (round, remove) in removals.iter().enumerate() {
        remove();
        let again = eventually("clients reach it again", || place.connect().ok());
        again.service.listHeaps().expect("answered");
        let said = || place.logged().matches("it is bound again").count() > round;
        eventually("it says so", || said().then_some(()));
    }
    let usage = client.service.getUsage().expect("an old session is served");
    assert!(usage.iter().any(|usage| usage.buffers == 1), "and its buffer is in the books: {usage:?}");
    drop(held);
    let message = place.refusal();
    assert!(message.contains(&format!("process {} is serving there", daemon.pid())), "{message}");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    assert!(!place.socket().exists() && !place.lock().exists());
}

#[test]
fn a_socket_that_may_not_be_bound_again_ends_the_service_with_an_error() {
    let confined = Place::new();
    let mut daemon = confined.start(&["--seccomp", "built-in"]);
    fs::remove_file(confined.socket()).expect("removed");
    let status = eventually("it ends", || daemon.child.try_wait().expect("our child"));
    assert_eq!(status.code(), Some(1));
    assert!(
        confined.logged().contains("cannot be bound again: the list of system calls"),
        "{}",
        confined.logged()
    );
}

#[test]
fn a_socket_that_cannot_be_bound_at_once_is_bound_later() {
    let place = Place::new();
    let _daemon = place.start_command(place.daemon(&[]).env_remove("ANION_SECCOMP"));
    let client = place.connect().expect("connected");
    fs::write(place.run_directory().join("file"), "").expect("written");
    fs::rename(place.run_directory().join("file"), place.socket()).expect("replaced");
    eventually("it says why", || {
        place.logged().contains("the path has a file that is no socket").then_some(())
    });
    fs::remove_file(place.socket()).expect("removed");
    eventually("clients reach it again", || place.connect().ok());
    client.service.listHeaps().expect("an old session is served");
}

#[test]
fn a_socket_of_systemds_that_was_removed_is_warned_of() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    let listener = UnixListener::bind(place.socket()).expect("bound");
    let daemon = place.start_command(&mut place.activated(listener.into()));
    let client = place.connect().expect("connected");
    fs::remove_file(place.socket()).expect("removed");
    eventually("it is warned of", || place.logged().contains("systemd owns it").then_some(()));
    client.service.listHeaps().expect("an old session is served");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
}

#[test]
fn sockets_that_a_wrapper_was_given_are_not_taken_and_it_is_said() {
    let place = Place::new();
    let listener = UnixListener::bind(place.directory.path().join("passed-on.sock")).expect("bound");
    let mut command = place.passed("LISTEN_FDS=1 LISTEN_PID=1", vec![listener.into()]);
    let _daemon = place.start_command(command.arg("--socket").arg(place.socket()));
    assert!(place.logged().contains("is for process 1 (LISTEN_PID)"), "{}", place.logged());
    place.connect().expect("connected").service.listHeaps().expect("answered");
}
