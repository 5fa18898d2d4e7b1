// SPDX-License-Identifier: Apache-2.0
//! Runs the conformance suite over a socket, and other tests that make every call to a service.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::leashed;
use crate::release;
use crate::server::Server;
use crate::steps::{nextest, run_tests};
use crate::tally::Tally;
use crate::tools::is_root;

/// A uid that owns no file.
const STRANGER: &str = "65534";
/// Two more uids that own nothing: Debian assigns neither to a user.
const TWO_STRANGERS: &str = "65532,65533";

/// Runs the conformance suite against a service over a socket, as this user and, if this is root,
/// as another user.
///
/// # Errors
/// If a test fails.
pub(crate) fn over_socket(tally: &mut Tally) -> Result<()> {
    let programs = release::build()?;
    conform_over_socket(&programs.aniond, &programs.vts, tally)
}

/// Runs the suite, a program, against this service.
fn conform_over_socket(service: &Path, suite: &Path, tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    // Other uids read files here, also if the checkout is in a home directory that is closed to
    // them.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))
        .context("cannot set the mode of the scratch directory")?;
    let (socket, vts) = (scratch.path().join("allocator.sock"), scratch.path().join("anion-vts"));
    let (graphics, mapper) = (scratch.path().join("graphics.sock"), scratch.path().join("mapper.anion.so"));
    for (built, copy) in [(suite, &vts), (&release::build_mapper()?, &mapper)] {
        fs::copy(built, copy).with_context(|| format!("cannot copy {}", built.display()))?;
    }

    let mut daemon = leashed(service);
    daemon
        .args(["--transport", "socket", "--socket-mode", "0666", "--seccomp", "built-in", "--socket"])
        .arg(&socket)
        .args(["--graphics", "--graphics-socket"])
        .arg(&graphics);
    let server = Server::start(&mut daemon, &socket, Duration::from_secs(300))?;
    let endpoint = format!("unix:{}", socket.display());
    let graphics_endpoint = format!("unix:{}", graphics.display());
    println!("as this user:");
    let mut own = Command::new(&vts);
    own.args(["--endpoint", &endpoint]);
    let with_mapper =
        [OsStr::new("--mapper"), mapper.as_os_str(), OsStr::new("--graphics"), graphics_endpoint.as_ref()];
    own.args(with_mapper);
    if is_root() {
        own.args(["--uids", TWO_STRANGERS]);
    }
    run_tests(&mut own, tally)?;
    if is_root() {
        println!("as uid {STRANGER}:");
        let mut other = Command::new("setpriv");
        other.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "--"]).arg(&vts);
        run_tests(other.args(["--endpoint", &endpoint]).args(with_mapper).current_dir("/"), tally)?;
    } else {
        println!("not run as another uid: only root can change its uid");
    }
    server.stop()
}

/// Client operations of a soak that is long enough to make each of its calls.
const SHORT_SOAK: &str = "6000";

/// Tests this service, under its filter, with everything that services do on this machine: the
/// daemon's tests, the conformance suite over a socket, a short soak.
///
/// # Errors
/// If a test fails.
pub(crate) fn exercise(service: &Path, tally: &mut Tally) -> Result<()> {
    let mut tests = nextest()?;
    // Tests of the filter have policies of their own, and one of them reads the observation that is
    // being made.
    tests.args(["--workspace", "-E", "package(anion) & kind(test) - binary(/^seccomp/)"]);
    tests.env("ANION_SECCOMP", "built-in").env("ANION_TEST_SERVICE", service);
    run_tests(tests.env("ANION_SOAK_OPERATIONS", SHORT_SOAK), tally)?;
    conform_over_socket(service, &release::build()?.vts, tally)
}
