// SPDX-License-Identifier: Apache-2.0
//! Kills and restarts the service, stops processes, shrinks pools, opens hostile connections and
//! makes resources of the service fail while clients work, in an order that a seed determines.
//! After each round the resources work again and the clients wait: every heap must serve, and the
//! accounts must show exactly the buffers that the clients hold.
//!
//! `ANION_CHAOS_MINUTES` and `ANION_CHAOS_SEED` set duration and seed: `cargo xtask chaos`. The
//! results of calls depend on timing; the checks do not. Under root, the clients have several uids.
//! The test prints which resources it cannot make fail on this machine.

#[path = "../soak/buffer.rs"]
#[expect(dead_code, reason = "these clients pass no buffers on")]
mod buffer;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod failure;
mod heaps;
mod hog;
mod hostile;
#[path = "../daemon/message.rs"]
#[expect(dead_code, reason = "these clients read no replies")]
mod message;
mod process;
mod surroundings;

use anion_client::{Client, Endpoint, Settings};
use common::holders;
use common::vitals::{Vitals, assert_no_panics, assert_nothing_left, await_none, entries_left};
use common::{Daemon, eventually};
use failure::{Deck, Failing, Failure};
use fastrand::Rng;
use heaps::Heaps;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use process::Process;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use surroundings::Surroundings;
use tempfile::TempDir;

const TEST: &str = "accounts_and_buffers_survive_random_kills_stops_and_attacks";
/// Rounds without a duration.
const ROUNDS: u64 = 8;
/// Rounds after which all clients end, and nothing may be left.
const GENERATION: u64 = 10;
const CLIENTS: usize = 5;
/// The uids of clients under root, which need no user. The test itself has root's quota.
const UIDS: [u32; 3] = [61_002, heaps::PRIVILEGED, 61_004];
/// Most events of a round before a resource fails.
const EVENTS_BEFORE: u64 = 4;
const REPORT: Duration = Duration::from_secs(15);

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, but must be a number")))
}

#[test]
fn accounts_and_buffers_survive_random_kills_stops_and_attacks() {
    if env::var_os(client::SOCKET).is_some() {
        return client::live();
    }
    if env::var_os(hog::LEAVES).is_some() {
        return hog::live();
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

/// The service, its clients, and the events so far.
struct Chaos {
    rng: Rng,
    heaps: Heaps,
    daemon: Daemon,
    observer: Client,
    clients: Vec<Process>,
    /// Connections that violate the protocol.
    hostile: Vec<UnixStream>,
    /// The resource that fails in this round.
    failing: Option<Failing>,
    deck: Deck,
    /// The state of the service with the observer as its only client.
    before: Vitals,
    rounds: u64,
    /// Allocations that were served and refused.
    allocations: [u64; 2],
    done: BTreeMap<&'static str, u64>,
    /// Dropped after the service, which is in its cgroups.
    around: Surroundings,
    _directory: TempDir,
}

impl Chaos {
    fn start(seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (around, heaps) = (Surroundings::find(directory.path()), Heaps::of_this_machine());
        let (possible, others) = Failure::possible(&around, &heaps);
        println!("heaps: {}", heaps.names.join(", "));
        println!("not possible on this machine: {}", names(&others));
        let daemon = Daemon::with_heaps_under(&around.wrapper(), &heaps.tree, &["--socket-mode", "0666"]);
        fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o711)).expect("our directory");
        let settings = Settings {
            endpoint: Some(Endpoint::Socket(daemon.socket())),
            patience: common::DEADLINE,
            connections: 1,
        };
        let observer = Client::as_operator(settings).expect("it serves");
        let mut rng = Rng::with_seed(seed);
        let mut chaos = Self {
            deck: Deck::new(&possible, &mut rng),
            before: Vitals::of(daemon.pid()),
            rng,
            heaps,
            daemon,
            observer,
            clients: Vec::new(),
            hostile: Vec::new(),
            failing: None,
            rounds: 0,
            allocations: [0; 2],
            done: BTreeMap::new(),
            around,
            _directory: directory,
        };
        // The service makes some threads and descriptors when a call needs them for the first time.
        chaos.order_all();
        eventually("every client waits", || chaos.clients.iter().all(Process::waits));
        chaos.clients.clear();
        let is_alone = |chaos: &Self| Vitals::of(chaos.daemon.pid()).sessions() == 1;
        eventually("the first clients are gone", || chaos.entries_left().is_empty() && is_alone(&chaos));
        chaos.before = Vitals::of(chaos.daemon.pid());
        chaos
    }

    /// Disturbs clients and service while the clients work, then compares the accounts with the
    /// buffers that the clients hold.
    fn round(&mut self) {
        let mut until_failure = self.rng.u64(..EVENTS_BEFORE);
        self.order_all();
        while !self.all_wait() || self.failing.is_none() {
            if until_failure == 0 {
                self.fail();
            } else {
                self.disturb();
            }
            until_failure = until_failure.wrapping_sub(1);
            thread::sleep(Duration::from_millis(self.rng.u64(0..8)));
        }
        self.hostile.clear();
        self.repair();
        let context = self.context("the accounts do not show what clients hold");
        await_none(&context, || self.differences());
        assert_no_panics(&self.daemon, &context);
        self.rounds += 1;
        if self.rounds.is_multiple_of(GENERATION) {
            self.end_clients();
        }
    }

    /// Returns whether every client that still runs has executed its order.
    fn all_wait(&mut self) -> bool {
        self.clients.retain_mut(|client| !client.has_ended());
        self.clients.iter().all(Process::waits)
    }

    /// Lets a resource fail for the rest of the round.
    fn fail(&mut self) {
        let failure = self.deck.draw(&mut self.rng);
        let machine = (&self.around, &self.heaps, TEST);
        self.failing =
            Some(failure::begin(failure, &mut self.daemon, &self.observer, machine, &mut self.rng));
        *self.done.entry(failure.name()).or_default() += 1;
    }

    /// Lets the resource work again. Then every heap must serve, and the service must count the
    /// buffers that clients present to it.
    fn repair(&mut self) {
        if let Some(failing) = self.failing.take() {
            failing.end(&mut self.daemon, &self.observer, &self.around);
        }
        let context = self.context("a heap does not serve");
        await_none(&context, || failure::why_not_served(&self.observer, &self.heaps));
        for client in &mut self.clients {
            for (sum, count) in self.allocations.iter_mut().zip(client.take_allocations()) {
                *sum += count;
            }
            client.order(0, 0);
        }
        eventually("every client has presented its buffers", || self.all_wait());
    }

    fn order_all(&mut self) {
        while self.clients.len() < CLIENTS {
            let own = Uid::effective();
            let uid = if own.is_root() { UIDS[self.rng.usize(..UIDS.len())] } else { own.as_raw() };
            let heaps = self.heaps.names.join(",");
            self.clients.push(Process::start(&self.daemon, TEST, uid, &heaps));
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
        if let (Some(Failing::Threads), Some(group)) = (&self.failing, &self.around.threads) {
            // The next service could not start.
            group.limit("max");
        }
        failure::restart(&mut self.daemon, Duration::from_millis(self.rng.u64(0..50)));
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
        self.daemon.clear_log();
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
        let [served, refused] = self.allocations;
        format!("{} rounds, {served} allocations and {refused} refused, {}", self.rounds, done.join(", "))
    }
}

fn names(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return "nothing".to_owned();
    }
    failures.iter().map(|failure| failure.name()).collect::<Vec<_>>().join(", ")
}
