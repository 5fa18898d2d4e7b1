// SPDX-License-Identifier: Apache-2.0
//! Tests commands that continue after a restart of the service.

mod common;

use common::anionctl::ANIONCTL;
use common::{Daemon, eventually};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running command, with its output in files.
struct Running {
    child: Child,
    output: PathBuf,
    complaints: PathBuf,
}

impl Running {
    fn start(daemon: &Daemon, directory: &Path, arguments: &[&str]) -> Self {
        let (output, complaints) = (directory.join("output"), directory.join("complaints"));
        let file = |path| File::create(path).expect("a file");
        let child = Command::new(ANIONCTL)
            .arg("--socket")
            .arg(daemon.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file(&output))
            .stderr(file(&complaints))
            .spawn()
            .expect("started");
        Self { child, output, complaints }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.output).expect("its output")
    }

    fn complained(&self, what: &str) -> bool {
        fs::read_to_string(&self.complaints).expect("its complaints").contains(what)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the service again beside a command, which must report it.
fn restart(daemon: &mut Daemon, command: &Running) {
    daemon.kill();
    eventually("it says that the service is gone", || command.complained("waiting for it"));
    daemon.start_again();
    eventually("it says that the service is there", || command.complained("the service runs again"));
}

#[test]
fn watch_looks_at_the_service_that_comes_after_a_restart() {
    let mut daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--json", "watch", "--interval", "50ms"];
    let mut watch = Running::start(&daemon, directory.path(), &arguments);
    eventually("it looks", || watch.told().contains("\"look\":2"));
    restart(&mut daemon, &watch);
    let before = watch.told().lines().count();
    eventually("it goes on looking", || watch.told().lines().count() > before + 2);
    assert!(watch.child.try_wait().expect("our child").is_none(), "until it is told to stop");
}

#[test]
fn a_reservation_that_is_held_is_made_again_after_a_restart() {
    let mut daemon = Daemon::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["reserve", "--heap", "system", "--size", "64K", "--count", "3", "--hold", "1h"];
    let reserve = Running::start(&daemon, directory.path(), &arguments);
    eventually("it is ready", || reserve.told().contains("3 of 3 buffers"));
    restart(&mut daemon, &reserve);
    eventually("it is in the books of the next service", || {
        let usage = common::anionctl::json(&daemon, &["usage"]);
        usage.to_string().contains("\"reserved_bytes\":196608")
    });
}
