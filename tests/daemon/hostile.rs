// SPDX-License-Identifier: Apache-2.0
//! Tests the limits of what one client can do at the expense of others: rows of
//! docs/threat-model.md.

use crate::message::{HANDSHAKE, header};
use crate::place::{Daemon, PATIENCE, Place, eventually, is_closed};
use crate::wire::{self, ALLOCATE, send_descriptors};
use anion_ipc::ParcelFileDescriptor;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    AllocationRequest::AllocationRequest, IHeapAllocator::IHeapAllocator,
};

const MIB: u64 = 1 << 20;

fn request(size: u64, count: i32) -> AllocationRequest {
    let size = i64::try_from(size).expect("small");
    AllocationRequest { size, count, heapNames: vec!["system".to_owned()], ..AllocationRequest::default() }
}

impl Daemon {
    /// Returns the bytes of its private memory.
    fn private_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("running");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("known");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("running").count()
    }

    /// Returns the processor time of its threads in nanoseconds, by name.
    fn processor_time(&self) -> HashMap<String, u64> {
        let mut times = HashMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid())).expect("running") {
            let task = task.expect("readable").path();
            let read = |file| fs::read_to_string(task.join(file));
            // A thread that has just ended has no such files.
            let (Ok(name), Ok(times_of)) = (read("comm"), read("schedstat")) else { continue };
            let nanoseconds = times_of.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            *times.entry(name.trim().to_owned()).or_default() += nanoseconds.unwrap_or(0);
        }
        times
    }
}

/// Returns connections after their handshakes.
fn crowd(place: &Place, count: usize) -> Vec<UnixStream> {
    let greet = |_| {
        let mut stream = place.stream();
        stream.write_all(&HANDSHAKE).expect("sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.read_exact(&mut [0; 8]).expect("welcome");
        stream
    };
    (0..count).map(greet).collect()
}

#[test]
fn memory_for_messages_grows_with_what_came_is_bounded_and_goes_back() {
    const BODY: u32 = 590_000;
    let place = Place::new();
    let daemon = place.start(&["--max-sessions-per-uid", "256"]);
    let before = daemon.private_bytes();
    let mut announced = crowd(&place, 128);
    for stream in &mut announced {
        stream.write_all(&header(BODY)).expect("sent");
    }
    // When the service answers this last client, it has read from all of them.
    place.connect().expect("connected").service.listHeaps().expect("answered");
    let bytes = daemon.private_bytes() - before;
    assert!(bytes < 32 * MIB, "{bytes} bytes for 128 headers");
    drop(announced);
    let mut sent = crowd(&place, 100);
    for stream in &mut sent {
        // The service closes those that exceed the budget during the transfer.
        let _ = stream.write_all(&header(BODY)).and_then(|()| stream.write_all(&vec![0; 589_999]));
    }
    let bytes = daemon.private_bytes() - before;
    assert!(bytes < 48 * MIB, "{bytes} bytes for messages of 59 MB");
    eventually("it is said whose session ends", || {
        let said =
            format!("(pid {}) ends: RPC protocol violation: more of unfinished messages", std::process::id());
        place.logged().contains(&said).then_some(())
    });
    place.connect().expect("connected").service.listHeaps().expect("others are served");
    drop(sent);
    eventually("the memory is given back", || (daemon.private_bytes() < before + 16 * MIB).then_some(()));
}

#[test]
fn a_message_that_is_not_finished_ends_its_session() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    let mut stream = crowd(&place, 1).remove(0);
    stream.write_all(&header(100)).expect("sent");
    assert!(is_closed(&stream));
    stream = crowd(&place, 1).remove(0);
    stream.write_all(&header(100_000)).expect("sent");
    let start = Instant::now();
    // Byte by byte it would last a day.
    while stream.write_all(&[0]).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it is still waited for");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn descriptors_of_unfinished_messages_are_bounded() {
    let place = Place::new();
    let daemon = place.start(&["--max-sessions-per-uid", "256"]);
    let before = daemon.descriptors();
    let crowd = crowd(&place, 64);
    let file = fs::File::open("/dev/null").expect("opened");
    for stream in &crowd {
        let _ = send_descriptors(stream, &header(100), file.as_fd(), 64);
    }
    eventually("it cuts those that are too much", || {
        place.logged().contains("more of unfinished messages").then_some(())
    });
    // Descriptors of a message are counted after their arrival, so there may be more until the
    // service closes these sessions.
    let bound = before + crowd.len() + 256 + 64;
    eventually("no more than the bound stay", || (daemon.descriptors() <= bound).then_some(()));
    drop(crowd);
    eventually("all of them are closed", || (daemon.descriptors() <= before).then_some(()));
}

#[test]
fn a_stalled_reader_of_the_log_delays_no_thread_and_learns_of_lost_lines() {
    let place = Place::new();
    let (mut log, writer) = io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("shrunk");
    let mut command = place.daemon(&["--log-level", "debug"]);
    command.stderr(writer);
    let daemon = place.start_command(&mut command);
    let client = place.connect().expect("connected");
    for _ in 0..2000 {
        // Each release is logged by the thread that detects it.
        drop(client.service.allocate(&request(4096, 1)).expect("served"));
    }
    place.connect().expect("connected").service.listHeaps().expect("accepting goes on");
    drop(command);
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&text).contains("lines of the log are lost") {
        let count = log.read(&mut piece).expect("readable");
        text.extend_from_slice(&piece[..count]);
    }
    drop(daemon);
}

#[test]
fn the_library_s_complaints_about_a_client_are_few() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    let start = Instant::now();
    let mut wire = wire::session(&place).expect("connected");
    let malformed = wire.call(ALLOCATE, &[]);
    for _ in 0..2000 {
        wire.send(&malformed).expect("sent");
        wire.reply().expect("a status");
    }
    let lines = place.logged().lines().filter(|line| line.contains("data")).count();
    let bound = usize::try_from(start.elapsed().as_secs()).expect("small") + 2;
    assert!((1..=bound).contains(&lines), "{lines} lines in {:?}", start.elapsed());
}

/// Returns a socket whose last copy takes as long to close as this test's time limit, unless its
/// peer reads; and that peer.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (theirs, _) = listener.accept().expect("accepted");
    ours.set_nonblocking(true).expect("set");
    // Again, after data in transit has arrived.
    for _ in 0..20 {
        while ours.write(&[0; 65536]).is_ok() {}
        thread::sleep(Duration::from_millis(5));
    }
    let seconds = libc::c_int::try_from(2 * PATIENCE.as_secs()).expect("small");
    setsockopt(&ours, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: seconds }).expect("set");
    (ours, theirs)
}

#[test]
fn the_accepting_thread_closes_no_descriptor_that_a_refused_client_sent() {
    let place = Place::new();
    let daemon = place.start(&["--max-connections-per-uid", "2"]);
    let held = crowd(&place, 2);
    // Beside the budget, there are connections for root and the service's own user until they state
    // their purpose.
    let beside: Vec<_> = (0..8).map(|_| place.stream()).collect();
    assert!(is_closed(&place.stream()), "the budget is used up");
    // While it is stopped, connections and their data wait to be accepted.
    kill(daemon.pid(), Signal::SIGSTOP).expect("sent");
    let mut peers = Vec::new();
    let refused: Vec<_> = (0..6)
        .map(|_| {
            let (socket, peer) = lingering();
            peers.push(peer);
            let stream = place.stream();
            send_descriptors(&stream, b"x", socket.as_fd(), 1).expect("sent");
            stream
        })
        .collect();
    kill(daemon.pid(), Signal::SIGCONT).expect("sent");
    assert!(refused.iter().all(is_closed), "each hears of it at once");
    drop((held, beside));
    let client = eventually("others are served meanwhile", || place.connect().ok());
    client.service.listHeaps().expect("answered");
    let closing = daemon.processor_time().keys().filter(|name| *name == "anion-closer").count();
    assert!(closing > 0, "the sockets are still being closed, by threads that nobody waits for");
}

#[test]
fn dumps_to_terminals_that_are_not_read_do_not_prevent_other_dumps() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let client = place.connect().expect("connected");
    let _buffers: Vec<_> =
        (0..8).map(|_| client.service.allocate(&request(4096, 64)).expect("served")).collect();
    let terminals = [(); 4].map(|()| nix::pty::openpty(None, None).expect("a terminal"));
    thread::scope(|scope| {
        for terminal in &terminals {
            scope.spawn(|| {
                let client = place.connect().expect("connected");
                let output = terminal.slave.try_clone().expect("copied");
                client.service.dumpTo(&ParcelFileDescriptor::new(output), &[]).expect_err("nobody reads it");
            });
        }
    });
    eventually("no thread is left with them", || {
        (!daemon.processor_time().contains_key("anion-dump")).then_some(())
    });
    let (mut reader, writer) = io::pipe().expect("a pipe");
    client.service.dumpTo(&ParcelFileDescriptor::new(writer), &["--help".to_owned()]).expect("written");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("closed by the service");
    assert!(text.contains("--json"), "{text}");
}

#[test]
fn a_refusal_costs_the_same_however_many_buffers_its_client_holds() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let client = place.connect().expect("connected");
    let cost = || {
        let time = || daemon.processor_time().values().sum::<u64>();
        let before = time();
        for _ in 0..200 {
            client.service.allocate(&request(1 << 46, 1)).expect_err("more than there is");
            client.service.explain(&request(1 << 46, 1)).expect("an answer");
        }
        time() - before
    };
    let with_none = cost();
    let _held: Vec<_> =
        (0..60).map(|_| client.service.allocate(&request(4096, 64)).expect("within the quota")).collect();
    let with_many = cost();
    assert!(with_many < 8 * with_none, "{with_none} ns without buffers, {with_many} ns with 3840");
}

#[test]
fn large_buffers_are_given_back_by_a_thread_that_notices_no_releases() {
    let place = Place::new();
    let file = place.directory.path().join("heaps.dts");
    let tree = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
        system { type = "system"; heap-id = <25>; device = "memfd"; immediate-free; }; }; };"#;
    fs::write(&file, tree).expect("written");
    let daemon = place.start(&["--config", file.to_str().expect("text")]);
    let client = place.connect().expect("connected");
    for _ in 0..8 {
        let allocation = client.service.allocate(&request(64 * MIB, 1)).expect("served");
        let fd: &std::os::fd::OwnedFd = allocation.buffers[0].fd.as_ref().expect("a descriptor").as_ref();
        nix::fcntl::posix_fallocate(fd, 0, 64 << 20).expect("there is memory");
    }
    let time = eventually("the memory is given back by its thread", || {
        let times = daemon.processor_time();
        let of = |name: &str| times.get(name).copied().unwrap_or(0);
        // Returning half a GiB takes the kernel much longer than this, and the start of a thread
        // does not.
        (of("anion-giver") > 10_000_000).then(|| (of("anion-reaper"), of("anion-giver")))
    });
    let (noticing, giving) = time;
    assert!(noticing < giving, "{noticing} ns to notice releases, {giving} ns to give memory back");
}
