// SPDX-License-Identifier: Apache-2.0
//! Tests commands that continue after a restart of the service.

mod common;

use common::anionctl::{ANIONCTL, anionctl};
use common::{Daemon, Killed, eventually};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A running command, with its output in files.
struct Running {
    child: Killed,
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
        Self { child: Killed(child), output, complaints }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.output).expect("its output")
    }

    fn complained(&self, what: &str) -> bool {
        fs::read_to_string(&self.complaints).expect("its complaints").contains(what)
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

/// Passes the connections of the clients of a socket on to the service. Ends the first one when the
/// client has received `most` bytes. Returns how many bytes the client receives over the last one.
fn pass_on(listener: &UnixListener, service: &Path, most: usize, connections: usize) -> usize {
    let mut received = 0;
    for number in 0..connections {
        let client = listener.accept().expect("a client").0;
        let service = UnixStream::connect(service).expect("it serves");
        let (mut from, mut to) = (client.try_clone().expect("copied"), service.try_clone().expect("copied"));
        let calls = thread::spawn(move || {
            // Fails if the connection was ended.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        received = 0;
        let (mut replies, mut client_end) = (&service, &client);
        while number > 0 || received < most {
            let mut byte = [0];
            if !matches!(replies.read(&mut byte), Ok(1)) || client_end.write_all(&byte).is_err() {
                break;
            }
            received += 1;
        }
        // Both fail if the client has ended the connection.
        let _ = client.shutdown(Shutdown::Both);
        let _ = service.shutdown(Shutdown::Both);
        calls.join().expect("no panic");
    }
    received
}

#[test]
fn a_question_that_the_service_does_not_answer_is_asked_once_more() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.directory().join("proxy");
    for question in ["usage", "stats", "list"] {
        let through = |most, connections| {
            let listener = UnixListener::bind(&socket).expect("bound");
            let received = thread::scope(|scope| {
                let passed = scope.spawn(|| pass_on(&listener, &daemon.socket(), most, connections));
                let asked = anionctl().arg("--socket").arg(&socket).arg(question).output().expect("started");
                // The other thread waits for this connection if the command makes too few.
                drop(UnixStream::connect(&socket).expect("connected"));
                let received = passed.join().expect("no panic");
                assert!(asked.status.success(), "{question}: {}", String::from_utf8_lossy(&asked.stderr));
                received
            });
            fs::remove_file(&socket).expect("removed");
            received
        };
        let bytes = through(usize::MAX, 1);
        // The last byte of the answer is missing.
        assert_eq!(through(bytes - 1, 2), bytes, "{question}");
    }
}
