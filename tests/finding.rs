// SPDX-License-Identifier: Apache-2.0
//! Tests how a client finds a service without a given address, and the message if there is none.
//! Each client has a private `/run`, so services of the machine do not matter.

mod common;

use assert_cmd::assert::Assert;
use common::anionctl::{ANIONCTL, anionctl, stderr, stdout};
use common::{CLIENT_HEAPS, DEADLINE, Daemon};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Prepares `/run` with the commands in `$1`, and executes the remaining arguments.
const ENTER: &str = "mount -t tmpfs none /run && mkdir -p /run/anion && eval \"$1\" && shift && exec \"$@\"";

/// Runs `anionctl list` with a `/run` made by `prepare`, and this `XDG_RUNTIME_DIR`.
fn list(prepare: &str, runtime: Option<&Path>) -> Assert {
    let mut command = assert_cmd::Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        ENTER,
        "sh",
        prepare,
        ANIONCTL,
        "list",
    ]);
    command.env_remove("ANION_SOCKET").env_remove("XDG_RUNTIME_DIR").timeout(DEADLINE);
    if let Some(runtime) = runtime {
        command.env("XDG_RUNTIME_DIR", runtime);
    }
    command.assert()
}

/// Returns the command that makes this service's socket the machine's.
fn machine_has(daemon: &Daemon) -> String {
    format!("ln -s {} /run/anion/allocator.sock", daemon.socket().display())
}

/// Returns a runtime directory in which the user's socket is a link to this one.
fn runtime_with(socket: &Path) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("anion")).expect("created");
    symlink(socket, directory.path().join("anion/allocator.sock")).expect("linked");
    directory
}

#[test]
fn the_users_own_service_comes_first_and_the_machines_next() {
    let machine = Daemon::with_heaps(CLIENT_HEAPS);
    let own = Daemon::with_heaps(&CLIENT_HEAPS.replace("camera", "own"));
    let (runtime, empty) = (runtime_with(&own.socket()), tempfile::tempdir().expect("a temporary directory"));
    let found = |prepare: &str, runtime| stdout(list(prepare, runtime).success());
    assert!(found(&machine_has(&machine), Some(runtime.path())).contains("own"));
    assert!(found(&machine_has(&machine), Some(empty.path())).contains("camera"));
    assert!(found(&machine_has(&machine), None).contains("camera"));
    assert!(found("true", Some(runtime.path())).contains("own"));
    // A socket file without a listener.
    let stale = runtime_with(&stale_in(&empty));
    assert!(found(&machine_has(&machine), Some(stale.path())).contains("camera"));
}

/// Creates a socket in `directory` without a listener. Returns its path.
fn stale_in(directory: &TempDir) -> PathBuf {
    let socket = directory.path().join("stale");
    drop(UnixListener::bind(&socket).expect("bound"));
    socket
}

#[test]
fn a_runtime_directory_of_another_user_is_passed_over() {
    // In the namespace this user is root, and all other users have the overflow uid.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let is_given_away = chown(directory.path(), Some(1), None).is_ok();
    let others = if is_given_away { directory.path() } else { Path::new("/") };
    let told = stderr(list("true", Some(others)).code(3));
    let wanted = format!("is {}, which belongs to uid 65534 and not to uid 0", others.display());
    assert!(told.contains(&wanted), "{told}");
}

#[test]
fn where_none_answers_each_place_has_its_cause_and_one_command_helps() {
    let runtime = tempfile::tempdir().expect("a temporary directory");
    let own = runtime.path().join("anion/allocator.sock");
    let told = |prepare: &str| stderr(list(prepare, Some(runtime.path())).code(3));
    let missing = told("true");
    let first =
        format!("anionctl: cannot reach the service: {}: there is no socket: No such file", own.display());
    assert!(missing.starts_with(&first), "{missing}");
    assert!(missing.contains("; /run/anion/allocator.sock: there is no socket: "), "{missing}");
    assert!(missing.ends_with("; to start a service for a trial: aniond\n"), "{missing}");

    let refused = told(&format!("ln -s {} /run/anion/allocator.sock", stale_in(&runtime).display()));
    assert!(
        refused.contains("; /run/anion/allocator.sock: no service listens: Connection refused"),
        "{refused}"
    );

    // A system that runs systemd and has the unit.
    let unit = "mkdir -p /run/systemd/system && mount -t tmpfs none /usr/local/lib && \
                mkdir -p /usr/local/lib/systemd/system && touch /usr/local/lib/systemd/system/anion.socket";
    let installed = told(unit);
    assert!(
        installed.ends_with("; to start the service, as root: systemctl start anion.socket\n"),
        "{installed}"
    );
}

#[test]
fn a_service_that_is_named_is_not_looked_for_elsewhere() {
    let message = stderr(anionctl().args(["--socket", "/nowhere/socket", "list"]).assert().code(3));
    assert!(
        message.starts_with("anionctl: cannot reach the service: /nowhere/socket: there is no socket: "),
        "{message}"
    );
    assert!(
        message.ends_with("; to start a service for a trial: aniond --socket /nowhere/socket\n"),
        "{message}"
    );
    anionctl().args(["--binder=/nowhere/binder", "list"]).assert().code(3);
}
