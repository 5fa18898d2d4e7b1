// SPDX-License-Identifier: Apache-2.0
//! Kills and restarts the service, stops processes, shrinks pools and opens hostile connections
//! while clients work, in an order that a seed determines. After each round the clients wait, and
//! the accounts must show exactly the buffers that they hold.
//!
//! `ANION_CHAOS_MINUTES` and `ANION_CHAOS_SEED` set duration and seed: `cargo xtask chaos`. The
//! results of calls depend on timing; the checks do not. Under root, the clients have several uids.

#[path = "../soak/buffer.rs"]
#[expect(dead_code, reason = "these clients pass no buffers on")]
mod buffer;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod holders;
mod hostile;
#[path = "../daemon/message.rs"]
#[expect(dead_code, reason = "these clients read no replies")]
mod message;

use anion_client::{Client, Endpoint, Settings};
use common::vitals::{Vitals, assert_no_panics, assert_nothing_left, await_none, entries_left};
use common::{Daemon, eventually};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const TEST: &str = "accounts_and_buffers_survive_random_kills_stops_and_attacks";
/// Rounds without a duration.
const ROUNDS: u64 = 8;
/// Rounds after which all clients end, and nothing may be left.
const GENERATION: u64 = 10;
const CLIENTS: usize = 5;
/// The uids of clients under root: root itself, and uids that need no user.
const UIDS: [u32; 3] = [0, 61_003, 61_004];
const REPORT: Duration = Duration::from_secs(15);

const HEAPS: &str = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <25>; device = "memfd"; deferred-free; };
    carveout { type = "carveout"; heap-id = <20>; size = <0x2000000>; device = "memfd"; deferred-free; };
    chunks { type = "chunk"; heap-id = <10>; size = <0x1000000>; chunk-size = <0x10000>; device = "memfd"; };
    direct { type = "carveout"; heap-id = <5>; size = <0x1000000>; device = "memfd"; immediate-free; };
    clients { max-bytes = <0x3000000>; };
}; };"#;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, but must be a number")))
}

#[test]
fn accounts_and_buffers_survive_random_kills_stops_and_attacks() {
    if env::var_os(client::SOCKET).is_some() {
        return client::live();
    }
    let seed = number("ANION_CHAOS_SEED").unwrap_or(1);
    let duration = number("ANION_CHAOS_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    println!("ANION_CHAOS_SEED={seed}");
    let mut chaos = Chaos::start(seed);
    let (started, mut reported) = (Instant::now(), Instant::now());
    while duration.map_or(chaos.rounds < ROUNDS, |duration| started.elapsed() < duration) {
        chaos.round();
        if reported.elapsed() > REPORT {
            println!("{:.0?}: {}", started.elapsed(), chaos.summary());
            reported = Instant::now();
        }
    }
    chaos.end_clients();
    println!("after {:.0?}: {}", started.elapsed(), chaos.summary());
}

/// A client process.
struct Process {
    child: Child,
    uid: u32,
    /// Whether it has executed the last order, and waits.
    waits: Arc<AtomicBool>,
    is_killed: bool,
}

impl Process {
    fn start(daemon: &Daemon, uid: u32) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", TEST, "--nocapture"])
            .env(client::SOCKET, daemon.socket())
            .env(client::UID, uid.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client starts");
        let (waits, output) = (Arc::new(AtomicBool::new(true)), child.stdout.take().expect("a pipe"));
        let told = Arc::clone(&waits);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                told.fetch_or(line == client::WAITS, Ordering::Relaxed);
            }
        });
        Self { child, uid, waits, is_killed: false }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn order(&mut self, seed: u64, operations: u64) {
        self.waits.store(false, Ordering::Relaxed);
        let line = format!("{seed} {operations}\n");
        // Fails if the client has just ended; `has_ended` detects this.
        let _ = self.child.stdin.as_mut().expect("a pipe").write_all(line.as_bytes());
    }

    fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill().expect("not waited for");
    }

    /// Returns whether it has ended.
    ///
    /// # Panics
    /// If it ended for another reason than [`Process::kill`]: it says why.
    fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("our child");
        assert!(status.is_none() || self.is_killed, "a client ended with {status:?}; it said why above");
        status.is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service, its clients, and the events so far.
struct Chaos {
    rng: Rng,
    daemon: Daemon,
    observer: Client,
    clients: Vec<Process>,
    /// Connections that violate the protocol.
    hostile: Vec<UnixStream>,
    /// The state of the service with the observer as its only client.
    before: Vitals,
    rounds: u64,
    done: BTreeMap<&'static str, u64>,
}

impl Chaos {
    fn start(seed: u64) -> Self {
        let daemon = Daemon::with_heaps_under(&[], HEAPS, &["--socket-mode", "0666"]);
        fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o711)).expect("our directory");
        let settings = Settings {
            endpoint: Some(Endpoint::Socket(daemon.socket())),
            patience: common::DEADLINE,
            connections: 1,
        };
        let observer = Client::as_operator(settings).expect("it serves");
        let before = Vitals::of(daemon.pid());
        let (clients, hostile, done) = (Vec::new(), Vec::new(), BTreeMap::new());
        let rng = Rng::with_seed(seed);
        let mut chaos = Self { rng, daemon, observer, clients, hostile, before, rounds: 0, done };
        // The service makes some threads and descriptors when a call needs them for the first time.
        chaos.order_all();
        eventually("every client waits", || {
            chaos.clients.iter().all(|client| client.waits.load(Ordering::Relaxed))
        });
        chaos.clients.clear();
        let is_alone = |chaos: &Self| Vitals::of(chaos.daemon.pid()).sessions() == 1;
        eventually("the first clients are gone", || chaos.entries_left().is_empty() && is_alone(&chaos));
        chaos.before = Vitals::of(chaos.daemon.pid());
        chaos
    }

    /// Disturbs clients and service while the clients work, then compares the accounts with the
    /// buffers that the clients hold.
    fn round(&mut self) {
        self.order_all();
        loop {
            self.clients.retain_mut(|client| !client.has_ended());
            if self.clients.iter().all(|client| client.waits.load(Ordering::Relaxed)) {
                break;
            }
            self.disturb();
            thread::sleep(Duration::from_millis(self.rng.u64(0..8)));
        }
        self.hostile.clear();
        let context = self.context("the accounts do not show what clients hold");
        await_none(&context, || self.differences());
        assert_no_panics(&self.daemon, &context);
        self.rounds += 1;
        if self.rounds.is_multiple_of(GENERATION) {
            self.end_clients();
        }
    }

    fn order_all(&mut self) {
        while self.clients.len() < CLIENTS {
            let own = Uid::effective();
            let uid = if own.is_root() { UIDS[self.rng.usize(..UIDS.len())] } else { own.as_raw() };
            self.clients.push(Process::start(&self.daemon, uid));
        }
        for client in &mut self.clients {
            client.order(self.rng.u64(..), self.rng.u64(10..60));
        }
    }

    /// Causes one event, which clients and service must survive. Returns its name.
    fn disturb(&mut self) {
        let what = match self.rng.u8(0..100) {
            0..30 => self.interrupt_service(),
            30..50 => self.interrupt_client(),
            50..55 => self.kill_client(),
            55..58 => self.restart(),
            58..80 => self.be_hostile(),
            80..90 => self.trim(),
            90..95 => self.read_configuration(),
            _ => "nothing",
        };
        *self.done.entry(what).or_default() += 1;
    }

    fn interrupt_service(&mut self) -> &'static str {
        self.interrupt(self.daemon.pid());
        "stops of the service"
    }

    fn interrupt_client(&mut self) -> &'static str {
        let client = self.rng.usize(..CLIENTS);
        if let Some(client) = self.clients.get(client) {
            self.interrupt(client.pid());
        }
        "stops of clients"
    }

    fn interrupt(&mut self, pid: Pid) {
        let pause = Duration::from_millis(self.rng.u64(0..30));
        kill(pid, Signal::SIGSTOP).expect("our child");
        thread::sleep(pause);
        kill(pid, Signal::SIGCONT).expect("our child");
    }

    fn kill_client(&mut self) -> &'static str {
        let client = self.rng.usize(..CLIENTS);
        if let Some(client) = self.clients.get_mut(client) {
            client.kill();
        }
        "kills of clients"
    }

    fn restart(&mut self) -> &'static str {
        self.daemon.kill();
        thread::sleep(Duration::from_millis(self.rng.u64(0..50)));
        self.daemon.start_again();
        let socket = self.daemon.socket();
        eventually("the next service serves", || UnixStream::connect(&socket).is_ok());
        "kills of the service"
    }

    fn be_hostile(&mut self) -> &'static str {
        for _ in 0..self.rng.usize(1..12) {
            self.hostile.extend(hostile::connection(&self.daemon.socket(), &mut self.rng));
        }
        let left = self.rng.usize(0..40);
        self.hostile.truncate(left);
        "hostile bursts"
    }

    fn trim(&mut self) -> &'static str {
        let bytes = if self.rng.bool() { 0 } else { 1 << 20 };
        // The service may end meanwhile.
        let _ = self.observer.call(|service| service.trim("", bytes));
        "trims"
    }

    fn read_configuration(&mut self) -> &'static str {
        kill(self.daemon.pid(), Signal::SIGHUP).expect("our child");
        "reads of the configuration"
    }

    /// Ends all clients, and waits until nothing of them is left.
    fn end_clients(&mut self) {
        for client in &mut self.clients {
            drop(client.child.stdin.take());
            let mut status = None;
            eventually("a client ends", || {
                status = client.child.try_wait().expect("our child");
                status.is_some()
            });
            let is_sound = client.is_killed || status.is_some_and(|status| status.success());
            assert!(is_sound, "a client ended with {status:?}; it said why above");
        }
        self.clients.clear();
        let context = self.context("something is left");
        assert_nothing_left(&self.daemon, &self.before, &context, || self.entries_left());
    }

    fn context(&self, fault: &str) -> String {
        format!("round {}, after {}: {fault}", self.rounds, self.summary())
    }

    /// Returns the uids whose account differs from the buffers that their clients hold.
    fn differences(&self) -> Vec<String> {
        let usage = self.observer.call(|service| service.getUsage()).expect("it serves");
        let mut uids: Vec<u32> = self.clients.iter().map(|client| client.uid).collect();
        uids.extend(usage.iter().map(|row| row.uid.cast_unsigned()));
        uids.sort_unstable();
        uids.dedup();
        let compare = |uid: u32| {
            let row = usage.iter().find(|row| row.uid.cast_unsigned() == uid);
            let charged = row.map_or((0, 0), |row| (row.buffers, row.bytes));
            let clients = self.clients.iter().filter(|client| client.uid == uid).map(Process::pid);
            let held = holders::held(self.daemon.pid(), clients);
            (charged != held).then(|| format!("uid {uid} holds {held:?} (buffers, bytes); {row:?}"))
        };
        uids.into_iter().filter_map(compare).collect()
    }

    /// Trims the pools, and returns the entries that are left in the accounts.
    fn entries_left(&self) -> Vec<String> {
        self.observer.call(|service| entries_left(&**service)).expect("it serves")
    }

    fn summary(&self) -> String {
        let done: Vec<_> = self.done.iter().map(|(what, times)| format!("{times} {what}")).collect();
        format!("{} rounds, {}", self.rounds, done.join(", "))
    }
}
