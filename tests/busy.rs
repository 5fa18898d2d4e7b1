// SPDX-License-Identifier: Apache-2.0
//! Tests memory that is set aside while the machine is so busy that the service's worker hardly
//! runs. It has a test program of its own, because the load would disturb other tests.

mod common;

use anion_client::{Client, Endpoint, Request, Settings};
use common::Daemon;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    camera { type = "carveout"; heap-id = <20>; size = <0x4000000>; device = "memfd"; deferred-free; };
}; };"#;
/// Sizes of a camera's frames in two modes. Both together never fit the heap.
const MODES: [u64; 2] = [48 << 20, 40 << 20];
/// Requests, with alternating modes.
const REQUESTS: usize = 24;
/// Threads that only loop, for each processor.
const BUSY_LOOPS: usize = 3;

/// Ends the busy loops, also if a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while every processor is busy.
fn beside_busy_loops(work: impl FnOnce()) {
    let processors = thread::available_parallelism().expect("known").get();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..BUSY_LOOPS * processors {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let _end = End(&is_over);
        work();
    });
}

#[test]
fn a_carveout_of_which_no_client_holds_anything_refuses_no_request() {
    let daemon = Daemon::with_heaps(HEAPS);
    let endpoint = Some(Endpoint::Socket(daemon.socket()));
    let client = Client::with(Settings { endpoint, ..Settings::default() }).expect("the daemon serves");
    beside_busy_loops(|| {
        for (number, bytes) in MODES.into_iter().cycle().take(REQUESTS).enumerate() {
            let start = Instant::now();
            if let Err(error) = client.allocate_one(&Request::new(bytes).heap("camera")) {
                panic!("request {number}, after {:?}: {error}", start.elapsed());
            }
        }
    });
}
