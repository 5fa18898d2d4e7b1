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

/// The number of clients between two checks.
const CLIENTS: usize = 1000;
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
    clients: AtomicUsize,
}

impl Service {
    fn start() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let socket = socket(&place).into_os_string().into_string().expect("UTF-8");
        let service = InProcess::start(&["--transport", "socket", "--socket", &socket]).expect("it serves");
        Self { service, place, descriptors: descriptors(), clients: AtomicUsize::new(0) }
    }

    /// Waits until the service holds nothing for a client.
    fn check(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.service.held_bytes() > 0 || descriptors() > self.descriptors + SPARE {
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

fn socket(place: &TempDir) -> PathBuf {
    place.path().join("allocator.sock")
}

/// Returns the number of descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("it has some").count()
}

/// Returns a connection to the service. Before every [`CLIENTS`]th, checks that the service holds
/// nothing for the clients before.
pub(crate) fn connect() -> UnixStream {
    let service = &*SERVICE;
    if service.clients.fetch_add(1, Ordering::Relaxed) % CLIENTS == CLIENTS - 1 {
        service.check();
    }
    let stream = UnixStream::connect(socket(&service.place)).expect("it accepts clients");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}
