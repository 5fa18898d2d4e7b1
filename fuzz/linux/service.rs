// SPDX-License-Identifier: Apache-2.0
//! The service in the fuzzer's process, at a socket of its own, and what must hold after each
//! client.

use anion::testing::InProcess;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Clients between two looks at what the service holds.
const CLIENTS: usize = 1000;
/// Longest wait for the service to notice the end of its clients.
const PATIENCE: Duration = Duration::from_secs(120);
/// Descriptors that the service may have beside those that it began with: connections whose end it
/// has not noticed yet.
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

    /// Waits until the service holds nothing of a client.
    fn check(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.service.held_bytes() > 0 || descriptors() > self.descriptors + SPARE {
            assert!(
                Instant::now() < deadline,
                "{} bytes and {} of {} descriptors are left of clients that have ended",
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

/// Returns how many descriptors this process has.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("it has some").count()
}

/// Returns a connection to the service. After every [`CLIENTS`]th, all that the service held of the
/// clients before must be free.
pub(crate) fn connect() -> UnixStream {
    let service = &*SERVICE;
    if service.clients.fetch_add(1, Ordering::Relaxed) % CLIENTS == CLIENTS - 1 {
        service.check();
    }
    let stream = UnixStream::connect(socket(&service.place)).expect("it accepts clients");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}
