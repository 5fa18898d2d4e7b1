// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: everything a change must pass, step by step.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::huge::SetAside;
use crate::process::{cargo, count_tests, find_program, leashed, line_of, path_with, run, workspace_root};
use crate::server::Server;
use crate::tally::Tally;
use crate::tools::{NEXTEST, ensure_crate, is_root};
use crate::vm::{self, VmArgs};
use crate::{android, cross, deny, readme, release, sepolicy};

/// Run every check and every test, one step after the other
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Run only this step; repeat it for more
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,

    /// Say what the steps are and stop
    #[arg(long)]
    list: bool,
}

/// One step: it adds the tests that it ran to the tally.
#[derive(Debug)]
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Tally) -> Result<()>,
}

/// From the quickest to the slowest.
const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the sources are formatted", run: fmt },
    Step { name: "clippy", about: "no warnings in any target", run: clippy },
    Step { name: "rustdoc", about: "the documentation builds, and its links lead somewhere", run: rustdoc },
    Step { name: "deny", about: "licences and sources of the crates, by deny.toml", run: deny::run },
    Step {
        name: "tests",
        about: "unit and integration tests, with services confined to their system calls",
        run: tests,
    },
    Step { name: "loom", about: "every order in which threads can meet at a heap's memory", run: loom },
    Step { name: "huge-pages", about: "heaps over huge pages, which root sets aside", run: huge_pages },
    Step {
        name: "sepolicy",
        about: "the SELinux policy over a platform in miniature: what it allows and what not",
        run: sepolicy::run,
    },
    Step { name: "boards", about: "device trees of real boards, from ../shared/dts", run: boards },
    Step { name: "doctests", about: "the examples in the documentation", run: doctests },
    Step { name: "readme", about: "the commands of README.md", run: readme::run },
    Step {
        name: "android-bp",
        about: "Android.bp is read and formatted by Android's own tool",
        run: android::format,
    },
    Step {
        name: "aidl",
        about: "Android's compiler takes the interface, and frozen stays frozen",
        run: android::interface,
    },
    Step {
        name: "android-check",
        about: "the crates of Android.bp type-check against Android's binder library",
        run: android::check,
    },
    Step {
        name: "targets",
        about: "the programs type-check for 32-bit ARM and x86, with Debian's Rust",
        run: cross::check,
    },
    Step { name: "vts-socket", about: "the conformance suite over a Unix socket", run: vts_socket },
    Step {
        name: "vts-guests",
        about: "the same over kernel binder, in guests with different kernels, with ION, without contiguous memory and with a broken one",
        run: vts_guests,
    },
    Step { name: "soak", about: "half a million allocations by clients that die at random", run: soak },
];

fn step_names() -> clap::builder::PossibleValuesParser {
    STEPS.iter().map(|step| step.name).into()
}

/// Runs the steps up to the first that fails and prints their times and counts.
///
/// # Errors
/// If a step failed; the message says how to run it alone.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    if args.list {
        for step in STEPS {
            println!("{:<13} {}", step.name, step.about);
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    let mut failure = None;
    let is_wanted = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    for step in STEPS.iter().filter(is_wanted) {
        println!("\n==> {}: {}", step.name, step.about);
        let start = Instant::now();
        let mut tally = Tally::default();
        let result = (step.run)(&mut tally);
        if result.is_err() && tally.failed == 0 {
            // What failed was no single test, and must not look like success in the sum.
            tally += Tally::one(false);
        }
        let row = Row { name: step.name, took: start.elapsed(), tally, is_ok: result.is_ok() };
        println!("==> {row}");
        rows.push(row);
        if let Err(error) = result {
            failure = Some(error.context(format!(
                "step `{0}` failed; to run it alone: cargo xtask test --only {0}",
                step.name
            )));
            break;
        }
    }
    print_summary(&rows);
    failure.map_or(Ok(()), Err)
}

/// How a step went.
struct Row {
    name: &'static str,
    took: Duration,
    tally: Tally,
    is_ok: bool,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.is_ok { "ok" } else { "FAILED" };
        write!(f, "{:<11} {word:<7}{:>8.1} s", self.name, self.took.as_secs_f64())?;
        if self.tally != Tally::default() {
            write!(f, "   {}", self.tally)?;
        }
        Ok(())
    }
}

/// A table of the steps, and the sum of their tests alone on the last line.
fn print_summary(rows: &[Row]) {
    let mut sum = Tally::default();
    let mut took = Duration::ZERO;
    println!("\n{:<11} {:<7}{:>10}   tests", "step", "result", "time");
    for row in rows {
        println!("{row}");
        sum += row.tally;
        took += row.took;
    }
    println!("{:<19}{:>8.1} s\n\n{sum}", "all", took.as_secs_f64());
}

fn fmt(_: &mut Tally) -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(_: &mut Tally) -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn rustdoc(_: &mut Tally) -> Result<()> {
    run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Services are confined to the system calls of their policy, here, in all later steps that have one, and in the guests; those
/// of README.md's commands and of plain `cargo test` are not.
fn tests(tally: &mut Tally) -> Result<()> {
    run_tests(nextest()?.arg("--workspace").env("ANION_SECCOMP", "built-in"), tally)
}

/// The feature swaps a lock for the model checker's, with which no other test can run.
fn loom(tally: &mut Tally) -> Result<()> {
    let filter = ["--package", "anion", "--lib", "--features", "loom", "-E", "test(interleavings)"];
    run_tests(nextest()?.args(filter), tally)
}

/// Pages that the tests need, with some to spare for the tests of a service that runs beside them.
const HUGE_PAGES: u64 = 16;

fn huge_pages(tally: &mut Tally) -> Result<()> {
    if !is_root() {
        println!("not run: only root can set huge pages aside");
        return Ok(());
    }
    let Some(_aside) = SetAside::new(HUGE_PAGES)? else {
        println!("not run: this kernel has no huge pages");
        return Ok(());
    };
    run_tests(nextest()?.args(["--workspace", "--run-ignored", "only", "-E", "binary(huge_pages)"]), tally)
}

fn boards(tally: &mut Tally) -> Result<()> {
    let trees = workspace_root().join("../shared/dts");
    if !trees.is_dir() {
        println!(
            "not run: {} is not there; it holds device trees that are not part of this project",
            trees.display()
        );
        return Ok(());
    }
    run_tests(nextest()?.args(["--workspace", "--run-ignored", "only", "-E", "binary(check_config)"]), tally)
}

fn doctests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    let (status, counted) = count_tests(command.args(["test", "--workspace", "--doc"]))?;
    *tally += counted;
    ensure!(status.success(), "`{}` failed: {status}", line_of(&command));
    Ok(())
}

/// `cargo nextest run`, built into the cache where it is not installed.
fn nextest() -> Result<Command> {
    let mut command = cargo();
    if find_program("cargo-nextest").is_none() {
        command.env("PATH", path_with(&ensure_crate(NEXTEST)?));
    }
    command.args(["nextest", "run"]);
    Ok(command)
}

/// Runs a test runner that must run at least one test.
fn run_tests(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let (status, counted) = count_tests(command)?;
    *tally += counted;
    let line = line_of(command);
    ensure!(status.success(), "`{line}` failed: {status}");
    ensure!(counted.is_success(), "`{line}` exited with 0, but says {counted}");
    Ok(())
}

/// An uid that owns nothing on any machine: `nobody` of Debian.
const STRANGER: &str = "65534";
/// Two more uids that own nothing: Debian gives none of these to anybody.
const TWO_STRANGERS: &str = "65532,65533";

fn vts_socket(tally: &mut Tally) -> Result<()> {
    conform_over_socket(&release::build()?.aniond, tally)
}

/// Runs the conformance suite against this service.
fn conform_over_socket(service: &Path, tally: &mut Tally) -> Result<()> {
    let programs = release::build()?;
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    // Other uids come here, also when the checkout is in a home they cannot enter.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).context("scratch directory")?;
    let (socket, vts) = (scratch.path().join("allocator.sock"), scratch.path().join("anion-vts"));
    fs::copy(&programs.vts, &vts).with_context(|| format!("cannot copy {}", programs.vts.display()))?;

    let mut daemon = leashed(service);
    daemon
        .args(["--transport", "socket", "--socket-mode", "0666", "--seccomp", "built-in", "--socket"])
        .arg(&socket);
    let server = Server::start(&mut daemon, &socket, Duration::from_secs(30))?;
    let endpoint = format!("unix:{}", socket.display());
    println!("as this user:");
    let mut own = Command::new(&vts);
    own.args(["--endpoint", &endpoint]);
    if is_root() {
        own.args(["--uids", TWO_STRANGERS]);
    }
    run_tests(&mut own, tally)?;
    if is_root() {
        println!("as uid {STRANGER}:");
        let mut other = Command::new("setpriv");
        other.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "--"]).arg(&vts);
        run_tests(other.args(["--endpoint", &endpoint]).current_dir("/"), tally)?;
    } else {
        println!("not run as another uid: only root can become one");
    }
    server.stop()
}

fn vts_guests(tally: &mut Tally) -> Result<()> {
    vm::run(&VmArgs::in_pairs(), tally)
}

/// Client operations of the soak, of which each allocates about two buffers.
const SOAK_OPERATIONS: &str = "300000";

fn soak(tally: &mut Tally) -> Result<()> {
    let mut soak = cargo();
    soak.args(["test", "--release", "--test", "soak", "--", "--nocapture"]);
    soak.env("ANION_SOAK_OPERATIONS", SOAK_OPERATIONS).env("ANION_SECCOMP", "built-in");
    run_tests(&mut soak, tally)
}

/// Client operations that show a service every call that the soak has for it.
const SHORT_SOAK: &str = "6000";

/// Has this service, under its filter, do all that services do on this machine: the daemon's tests, the conformance suite over a
/// socket, a short soak.
///
/// # Errors
/// If a test fails.
pub(crate) fn exercise(service: &Path, tally: &mut Tally) -> Result<()> {
    let mut tests = nextest()?;
    // Those of the filter itself have policies of their own, and one is about what is observed here.
    tests.args(["--package", "anion", "-E", "kind(test) - binary(/^seccomp/)"]);
    tests.env("ANION_SECCOMP", "built-in").env("ANION_TEST_SERVICE", service);
    run_tests(tests.env("ANION_SOAK_OPERATIONS", SHORT_SOAK), tally)?;
    conform_over_socket(service, tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_ran_nothing_fails() {
        let mut tally = Tally::default();
        run_tests(Command::new("sh").args(["-c", "echo 'test result: ok. 0 passed; 0 failed'"]), &mut tally)
            .expect_err("no test ran");
        run_tests(Command::new("true").arg("x"), &mut tally).expect_err("no test was counted");
        run_tests(Command::new("sh").args(["-c", "echo 'test result: ok. 2 passed; 0 failed'"]), &mut tally)
            .expect("two passed");
        assert_eq!(tally, Tally { passed: 2, failed: 0 });
    }

    #[test]
    fn rows_show_result_time_and_counts() {
        let mut row =
            Row { name: "fmt", took: Duration::from_millis(1250), tally: Tally::default(), is_ok: true };
        assert_eq!(row.to_string(), "fmt         ok          1.2 s");
        row.tally = Tally { passed: 3, failed: 1 };
        row.is_ok = false;
        assert_eq!(row.to_string(), "fmt         FAILED      1.2 s   3 passed, 1 failed");
    }
}
