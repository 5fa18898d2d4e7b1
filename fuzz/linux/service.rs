// SPDX-License-Identifier: Apache-2.0
//! Runs the service in the fuzzer's process, at a socket of its own, and checks that it holds
//! nothing for clients that have ended.

use anion::testing::InProcess;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A socket of the service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Socket {
    /// That of the service's own interface.
    Heaps,
    /// That of the graphics allocator.
    Graphics,
}

/// The heaps of the service.
const HEAPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/linux/heaps.dts");
/// The number of inputs between two checks.
const INPUTS: usize = 1000;
/// Longest wait for the service to detect the end of its clients.
const PATIENCE: Duration = Duration::from_secs(120);
/// Descriptors that the service may have beside those that it began with: connections whose end it
/// has not detected yet.
const SPARE: usize = 64;

static SERVICE: LazyLock<Service> = LazyLock::new(Service::start);

struct Service {
    service: InProcess,
    place: TempDir,
    descriptors: usize,
    inputs: AtomicUsize,
}

impl Service {
    fn start() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let [heaps, graphics] = [Socket::Heaps, Socket::Graphics]
            .map(|socket| path(&place, socket).into_os_string().into_string().expect("UTF-8"));
        let sockets =
            ["--transport", "socket", "--socket", &heaps, "--graphics", "--graphics-socket", &graphics];
        let arguments = [&["--config", HEAPS][..], &sockets].concat();
        let service = InProcess::start(&arguments).expect("it serves");
        Self { service, place, descriptors: descriptors(), inputs: AtomicUsize::new(0) }
    }

    /// Waits until the service holds nothing for a client.
    fn check(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.service.held_bytes() > 0 || descriptors() > self.descriptors + SPARE {
            // Memory in pools has descriptors, too, and stays there for half a minute.
            self.service.trim();
            assert!(
                Instant::now() < deadline,
                "after all clients have ended, the service holds {} bytes, and has {} descriptors instead of {}",
                self.service.held_bytes(),
                descriptors(),
                self.descriptors
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn path(place: &TempDir, socket: Socket) -> PathBuf {
    place.path().join(match socket {
        Socket::Heaps => "allocator.sock",
        Socket::Graphics => "graphics.sock",
    })
}

/// Returns the number of descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("it has some").count()
}

/// Begins an input, which has no connection yet. Before every [`INPUTS`]th, checks that the service
/// holds nothing for the clients before.
pub(crate) fn begin() {
    let service = &*SERVICE;
    if service.inputs.fetch_add(1, Ordering::Relaxed) % INPUTS == INPUTS - 1 {
        service.check();
    }
}

/// Returns a connection to a socket of the service.
pub(crate) fn connect(socket: Socket) -> UnixStream {
    let stream = UnixStream::connect(path(&SERVICE.place, socket)).expect("it accepts clients");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}
