// SPDX-License-Identifier: Apache-2.0
//! The soak: many client processes allocate, write, share, inherit and close buffers, and die at
//! any moment. Every new buffer must be zero, no held one may change, and at the end the service
//! must be in its initial state.
//!
//! `ANION_SOAK_OPERATIONS` sets the amount of work. `ANION_SOAK_SEED` repeats the orders of the
//! clients; their results still depend on timing. `cargo xtask test --only soak` runs millions of
//! allocations. Under root, the clients have several uids; otherwise all have that of the test.

mod buffer;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod observer;
mod sys;

use aidl::IHeapAllocator::IHeapAllocator;
use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect};
use anyhow::bail;
use client::Orders;
use common::Daemon;
use common::vitals::{Vitals, assert_nothing_left, entries_left};
use fastrand::Rng;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use observer::Seen;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use vendor_anion_allocator::aidl::vendor::anion::allocator as aidl;

/// Operations of all clients together, unless the environment sets another number.
const DEFAULT_OPERATIONS: u64 = 24_000;
/// Client processes at any time.
const CLIENTS: u64 = 6;
/// Operations in the life of a client.
const LIFE: std::ops::RangeInclusive<u64> = 20..=400;
/// The uids of clients under root: root itself, and uids that need no user.
const UIDS: [u32; 3] = [0, 61_001, 61_002];
/// The largest pool size in [`heaps`].
const POOL_LIMIT: i64 = 32 << 20;
/// The test that a client process runs.
const TEST: &str = "nothing_is_left_of_clients_that_came_and_died";
/// The variable with a client's orders. A process with this variable is a client.
const ORDERS: &str = "ANION_SOAK_CLIENT";

/// Returns heaps with pools, with and without a size, one without a pool, and a quota that clients
/// reach.
fn heaps() -> String {
    format!(
        r#"/dts-v1/; / {{ anion {{ compatible = "anion,heaps-v1";
        system {{ type = "system"; heap-id = <25>; deferred-free; pool-limit = <{POOL_LIMIT}>; }};
        carveout {{ type = "carveout"; heap-id = <20>; size = <0x4000000>; alignment = <0x10000>;
            deferred-free; pool-limit = <{POOL_LIMIT}>; }};
        chunks {{ type = "chunk"; heap-id = <10>; size = <0x2000000>; chunk-size = <0x10000>;
            deferred-free; pool-limit = <{POOL_LIMIT}>; }};
        direct {{ type = "carveout"; heap-id = <5>; size = <0x8000000>; }};
        clients {{ max-bytes = <0x3000000>; max-buffers = <160>; }}; }}; }};"#
    )
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, but must be a number")))
}

#[test]
fn nothing_is_left_of_clients_that_came_and_died() {
    if let Ok(orders) = env::var(ORDERS) {
        return client::live(&orders);
    }
    let seed = number_from_environment("ANION_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let operations = number_from_environment("ANION_SOAK_OPERATIONS").unwrap_or(DEFAULT_OPERATIONS);
    let context = format!("ANION_SOAK_SEED={seed} ANION_SOAK_OPERATIONS={operations}");
    println!("{context}");
    let soak = Soak::start();
    let before = Vitals::of(soak.daemon.pid());
    let started = Instant::now();
    let outcome = soak.run(seed, operations);
    let seen = outcome.unwrap_or_else(|failures| panic!("{context}\n{failures:#?}"));
    println!("{:.1?}, {seen:?}", started.elapsed());
    soak.assert_all_kinds_of_work_done(&context);
    soak.assert_nothing_left(&before, &context);
}

/// The service, and a connection that observes it.
struct Soak {
    daemon: Daemon,
    observer: Connection<dyn IHeapAllocator>,
}

impl Soak {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("heaps.dts");
        fs::write(&config, heaps()).expect("written");
        let config = config.to_str().expect("a name of ours");
        // A client's child keeps the connection open a little longer than the client.
        let daemon =
            Daemon::start(&["--config", config, "--socket-mode", "0666", "--max-sessions-per-uid", "128"]);
        let everyone = fs::Permissions::from_mode(0o711);
        fs::set_permissions(daemon.directory(), everyone).expect("our directory");
        let observer = connect(&Endpoint::Socket(daemon.socket()), SERVICE_NAME, 1).expect("it serves");
        let soak = Self { daemon, observer };
        assert_eq!(soak.observer.service.listHeaps().expect("heaps").len(), 4, "every heap is understood");
        // The connection that waited for readiness may still have its thread.
        thread::sleep(Duration::from_millis(200));
        soak
    }

    /// Runs the clients, and checks the accounts at the same time.
    ///
    /// # Errors
    /// All failures of clients and of the accounts.
    fn run(&self, seed: u64, operations: u64) -> Result<Seen, Vec<anyhow::Error>> {
        let (failed, done) = (AtomicBool::new(false), AtomicBool::new(false));
        // One half of the clients sends, and the other half receives. Messages that are not
        // received stay in the queue.
        let (left, right) = UnixDatagram::pair().expect("sockets");
        let mut rng = Rng::with_seed(seed);
        thread::scope(|scope| {
            let lives: Vec<_> = (0..CLIENTS)
                .map(|index| {
                    let exchange = if index % 2 == 0 { &left } else { &right };
                    let (rng, failed) = (rng.fork(), &failed);
                    scope
                        .spawn(move || self.live_again_and_again(rng, operations / CLIENTS, exchange, failed))
                })
                .collect();
            let observer = scope.spawn(|| {
                let outcome = observer::observe(&self.observer.service, &done);
                failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            });
            let ends: Vec<_> = lives.into_iter().map(|life| life.join().expect("no panic")).collect();
            done.store(true, Ordering::Relaxed);
            let seen = observer.join().expect("no panic");
            let mut failures: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
            match seen {
                Ok(seen) if failures.is_empty() => return Ok(seen),
                Ok(_) => {}
                Err(failure) => failures.push(failure),
            }
            Err(failures)
        })
    }

    /// Runs clients in sequence, until their share of the work is done or any client or check
    /// fails.
    fn live_again_and_again(
        &self,
        mut rng: Rng,
        share: u64,
        exchange: &UnixDatagram,
        failed: &AtomicBool,
    ) -> anyhow::Result<()> {
        let own = Uid::effective();
        let mut left = share;
        while left > 0 && !failed.load(Ordering::Relaxed) {
            let orders = Orders {
                seed: rng.u64(..),
                operations: rng.u64(LIFE).min(left),
                uid: if own.is_root() { UIDS[rng.usize(..UIDS.len())] } else { own.as_raw() },
                endpoint: Endpoint::Socket(self.daemon.socket()),
            };
            left -= orders.operations;
            // Some are killed during an operation.
            let killed_after = (rng.u8(0..5) == 0).then(|| Duration::from_millis(rng.u64(0..400)));
            let status = live_once(&orders, exchange, killed_after);
            if !status.success() && status.signal() != Some(Signal::SIGKILL as i32) {
                failed.store(true, Ordering::Relaxed);
                bail!("a client with {orders:?} ended with {status}; it said why above");
            }
        }
        Ok(())
    }

    /// Checks that work of every kind was done: a soak without a pool, a full pool and a refusal
    /// shows little.
    fn assert_all_kinds_of_work_done(&self, context: &str) {
        let stats = self.observer.service.getStats().expect("stats");
        let sum = |field: fn(&aidl::HeapStats::HeapStats) -> i64| stats.iter().map(field).sum::<i64>();
        let work = [
            ("allocations", sum(|heap| heap.allocations)),
            ("recycled", sum(|heap| heap.recycled)),
            ("newly made", sum(|heap| heap.poolMisses)),
            ("not kept", sum(|heap| heap.discarded)),
            ("bytes scrubbed", sum(|heap| heap.scrubbedBytes)),
        ];
        println!(
            "{work:?}, refused for quota {}, for room {}, of these by fragmentation {}",
            sum(|heap| heap.failuresQuota),
            sum(|heap| heap.failuresNoMemory),
            sum(|heap| heap.failuresFragmented)
        );
        for (what, times) in work {
            assert!(times > 0, "{context}\n{what}: none");
        }
    }

    /// Waits until the service is in its initial state.
    fn assert_nothing_left(&self, before: &Vitals, context: &str) {
        assert_nothing_left(&self.daemon, before, context, || {
            entries_left(&*self.observer.service).expect("the observer is privileged")
        });
        println!("before {before:?}\nafter  {:?}", Vitals::of(self.daemon.pid()));
        let log = self.daemon.log();
        let alarming: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
        assert!(alarming.is_empty(), "{context}\nthe service logged:\n{}", alarming.join("\n"));
    }
}

/// Runs this program again, as a client. Returns its result.
fn live_once(orders: &Orders, exchange: &UnixDatagram, killed_after: Option<Duration>) -> ExitStatus {
    let exchange: OwnedFd = exchange.as_fd().try_clone_to_owned().expect("descriptors are left");
    let mut process = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env(ORDERS, orders.to_text())
        .current_dir(Path::new("/"))
        .stdin(exchange)
        .stdout(Stdio::null())
        .spawn()
        .expect("a client starts");
    if let Some(pause) = killed_after {
        thread::sleep(pause);
        process.kill().expect("not waited for, so it is still there");
    }
    process.wait().expect("a child")
}
