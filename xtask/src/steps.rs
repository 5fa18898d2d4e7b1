// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: everything a change must pass, step by step.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::needs::{
    self, ARCHIVE, ARM32, BINDINGS, BPFMT, DEVICE_TREE, DIST, EVERYTHING, LIBANION, LINKER, PICTURES, PYTHON,
    SEPOLICY, SURROUNDINGS,
};
use crate::process::{cargo, count_tests, find_program, leashed, line_of, path_with, run};
use crate::report::{run_step, summary};
use crate::server::Server;
use crate::tally::Tally;
use crate::tools::{CBINDGEN, NEXTEST, Tool, cache_dir, ensure_crate, ensure_tools, is_root};
use crate::vm::{self, VmArgs};
use crate::{android, cross, deny, huge, install, libanion, python, readme, release, sepolicy, trees};

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
    /// What it takes of Debian's packages, beyond what is on every Debian.
    tools: &'static [&'static [Tool]],
    /// Says what it will build or download into the cache, less what is there.
    unfetched: fn(&Path) -> Vec<String>,
    run: fn(&mut Tally) -> Result<()>,
}

/// From the quickest to the slowest.
const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the sources are formatted", tools: &[], unfetched: nothing, run: fmt },
    Step {
        name: "packages",
        about: "the programs and libraries that are used are in the Debian packages that are asked for",
        tools: EVERYTHING,
        unfetched: nothing,
        run: needs::check,
    },
    Step {
        name: "clippy",
        about: "no warnings in any target",
        tools: &[LINKER],
        unfetched: nothing,
        run: clippy,
    },
    Step {
        name: "rustdoc",
        about: "the documentation builds, and its links lead somewhere",
        tools: &[LINKER],
        unfetched: nothing,
        run: rustdoc,
    },
    Step {
        name: "deny",
        about: "licences and sources of the crates, by deny.toml",
        tools: &[LINKER],
        unfetched: deny::unfetched,
        run: deny::run,
    },
    Step {
        name: "tests",
        about: "unit and integration tests, with services confined to their system calls",
        tools: &[LINKER, SURROUNDINGS],
        unfetched: test_runner,
        run: tests,
    },
    Step {
        name: "loom",
        about: "every order in which threads can meet at a heap's memory",
        tools: &[LINKER],
        unfetched: test_runner,
        run: loom,
    },
    Step {
        name: "huge-pages",
        about: "heaps over huge pages, which root sets aside",
        tools: &[LINKER],
        unfetched: test_runner,
        run: huge::test,
    },
    Step {
        name: "sepolicy",
        about: "the SELinux policy over a platform in miniature: what it allows and what not",
        tools: &[SEPOLICY],
        unfetched: nothing,
        run: sepolicy::run,
    },
    Step {
        name: "boards",
        about: "overlays beside fdtoverlay; device trees of real boards, from ../shared/dts",
        tools: &[LINKER, DEVICE_TREE],
        unfetched: test_runner,
        run: trees::boards,
    },
    Step {
        name: "trees",
        about: "the device trees of Debian's kernels for ARM, as blobs, as sources, and beside libfdt",
        tools: &[LINKER, ARCHIVE, DEVICE_TREE],
        unfetched: trees::unfetched,
        run: trees::test,
    },
    Step {
        name: "doctests",
        about: "the examples in the documentation",
        tools: &[LINKER],
        unfetched: nothing,
        run: doctests,
    },
    Step {
        name: "c",
        about: "libanion: header, installation, programs in C and C++ by gcc and clang with sanitizers; programs as they are",
        tools: &[LINKER, LIBANION, PICTURES],
        unfetched: |cache| CBINDGEN.unbuilt(cache, None).into_iter().chain(test_runner(cache)).collect(),
        run: libanion::test,
    },
    Step {
        name: "python",
        about: "the Python package: wheel, types, tests against the service, the documents' examples",
        tools: &[LINKER, PYTHON],
        unfetched: python::unfetched,
        run: python::test,
    },
    Step {
        name: "readme",
        about: "the commands of README.md, and Debian's package of what is installed",
        tools: &[LINKER, DIST],
        unfetched: nothing,
        run: |tally| readme::run(tally).and_then(|()| install::test(tally)),
    },
    Step {
        name: "android-bp",
        about: "Android.bp is read and formatted by Android's own tool",
        tools: &[BPFMT],
        unfetched: nothing,
        run: android::format,
    },
    Step {
        name: "aidl",
        about: "Android's compiler takes the interface, and frozen stays frozen",
        tools: &[ARCHIVE, BPFMT],
        unfetched: |cache| android::COMPILER.unfetched(cache).into_iter().collect(),
        run: android::interface,
    },
    Step {
        name: "android-check",
        about: "the crates of Android.bp type-check against Android's binder library",
        tools: &[LINKER, ARCHIVE, BINDINGS],
        unfetched: |cache| android::COMPILER.unfetched(cache).into_iter().collect(),
        run: android::check,
    },
    Step {
        name: "targets",
        about: "the programs, libanion and the mapper type-check for 32-bit ARM and x86, with Debian's Rust; programs in C link with it",
        tools: &[LINKER, ARCHIVE, ARM32],
        unfetched: |cache| cross::RUST.unfetched(cache).into_iter().collect(),
        run: cross::check,
    },
    Step {
        name: "vts-socket",
        about: "the conformance suite over a Unix socket, that of the mapper with it",
        tools: &[LINKER],
        unfetched: nothing,
        run: vts_socket,
    },
    Step {
        name: "vts-guests",
        about: "the same over kernel binder, in guests with different kernels, with ION, without contiguous memory and with a broken one",
        tools: vm::TOOLS,
        unfetched: vm::unfetched,
        run: vts_guests,
    },
    Step {
        name: "soak",
        about: "half a million allocations by clients that die at random",
        tools: &[LINKER],
        unfetched: nothing,
        run: soak,
    },
];

fn nothing(_: &Path) -> Vec<String> {
    Vec::new()
}

fn test_runner(cache: &Path) -> Vec<String> {
    NEXTEST.unbuilt(cache, None).filter(|_| find_program("cargo-nextest").is_none()).into_iter().collect()
}

fn step_names() -> clap::builder::PossibleValuesParser {
    STEPS.iter().map(|step| step.name).into()
}

/// Installs what the steps take, runs them up to the first that fails, and prints their times and
/// counts.
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
    let is_wanted = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(is_wanted).collect();
    let mut rows = Vec::new();
    let result = run_step(&mut rows, "install", |_| prepare(&steps)).and_then(|()| {
        steps.iter().try_for_each(|step| {
            println!("\n==> {}: {}", step.name, step.about);
            run_step(&mut rows, step.name, step.run).with_context(|| {
                format!("step `{0}` failed; to run it alone: cargo xtask test --only {0}", step.name)
            })
        })
    });
    println!("\n{}", summary(rows));
    result
}

/// Says what the steps will build and download, and installs the packages that they take.
fn prepare(steps: &[&Step]) -> Result<()> {
    let cache = cache_dir()?;
    let mut lines: Vec<String> = steps.iter().flat_map(|step| (step.unfetched)(&cache)).collect();
    lines.sort();
    lines.dedup();
    if !lines.is_empty() {
        println!("the steps will, once, into {}:", cache.display());
    }
    for line in lines {
        println!("  {line}");
    }
    ensure_tools(&steps.iter().flat_map(|step| step.tools.concat()).collect::<Vec<_>>())
}

fn fmt(_: &mut Tally) -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

/// Runs clippy, on the programs alone, too: tests use, and see, more of the service than these.
fn clippy(_: &mut Tally) -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(cargo().args(["clippy", "--workspace", "--", "-D", "warnings"]))
}

/// Builds the documentation, as other programs see it and as developers of this one do.
fn rustdoc(_: &mut Tally) -> Result<()> {
    let document = ["doc", "--workspace", "--no-deps"];
    run(cargo().args(document).env("RUSTDOCFLAGS", "-Dwarnings"))?;
    run(cargo().args(document).arg("--document-private-items").env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Services are confined to the system calls of their policy, here, in all later steps that have
/// one, and in the guests; those of README.md's commands and of plain `cargo test` are not.
fn tests(tally: &mut Tally) -> Result<()> {
    run_tests(nextest()?.arg("--workspace").env("ANION_SECCOMP", "built-in"), tally)
}

/// Runs the model checker. The feature swaps a lock for the model checker's, with which no other
/// test can run.
fn loom(tally: &mut Tally) -> Result<()> {
    let filter = ["--package", "anion", "--lib", "--features", "loom", "-E", "test(interleavings)"];
    run_tests(nextest()?.args(filter), tally)
}

fn doctests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    let (status, counted) = count_tests(command.args(["test", "--workspace", "--doc"]))?;
    *tally += counted;
    ensure!(status.success(), "`{}` failed: {status}", line_of(&command));
    Ok(())
}

/// Returns `cargo nextest run`, built into the cache where it is not installed.
pub(crate) fn nextest() -> Result<Command> {
    let mut command = cargo();
    if find_program("cargo-nextest").is_none() {
        command.env("PATH", path_with(&ensure_crate(NEXTEST)?));
    }
    command.args(["nextest", "run"]);
    Ok(command)
}

/// Runs a test runner that must run at least one test.
pub(crate) fn run_tests(command: &mut Command, tally: &mut Tally) -> Result<()> {
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
    let (graphics, mapper) = (scratch.path().join("graphics.sock"), scratch.path().join("mapper.anion.so"));
    for (built, copy) in [(&programs.vts, &vts), (&release::build_mapper()?, &mapper)] {
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

/// Has this service, under its filter, do all that services do on this machine: the daemon's tests,
/// the conformance suite over a socket, a short soak.
///
/// # Errors
/// If a test fails.
pub(crate) fn exercise(service: &Path, tally: &mut Tally) -> Result<()> {
    let mut tests = nextest()?;
    // Those of the filter itself have policies of their own, and one is about what is observed
    // here.
    tests.args(["--package", "anion", "-E", "kind(test) - binary(/^seccomp/)"]);
    tests.env("ANION_SECCOMP", "built-in").env("ANION_TEST_SERVICE", service);
    run_tests(tests.env("ANION_SOAK_OPERATIONS", SHORT_SOAK), tally)?;
    conform_over_socket(service, tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::TRACER;

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
    fn every_list_of_tools_is_taken_by_a_step() {
        for list in EVERYTHING.iter().copied().filter(|list| *list != TRACER) {
            let mut others = STEPS.iter().filter(|step| step.name != "packages");
            assert!(others.any(|step| step.tools.contains(&list)), "{list:?}");
        }
    }
}
