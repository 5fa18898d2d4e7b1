// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: runs all checks that a change must pass, by steps.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::needs::{
    self, ARCHIVE, ARM32, BINDINGS, BPFMT, BROWSER, DEVICE_TREE, DIST, EVERYTHING, FUZZ, LIBANION, LINKER,
    PICTURES, PYTHON, SEPOLICY, SURROUNDINGS, TRACER,
};
use crate::process::{cargo, count_tests, find_program, line_of, path_with, run};
use crate::report::{Row, Spent, run_step, summary};
use crate::tally::Tally;
use crate::tools::{CBINDGEN, NEXTEST, Tool, cache_dir, ensure_crate, ensure_tools};
use crate::vm::{self, VmArgs};
use crate::{
    android, conformance, cross, deny, fuzz, huge, install, libanion, python, readme, sepolicy, soak, trees,
};

/// Run all checks and tests in steps; the guests run beside the other steps
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Run only this step; repeat the option for more
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,

    /// List the steps and exit
    #[arg(long)]
    list: bool,
}

/// One step, which adds its tests to the tally.
#[derive(Debug)]
struct Step {
    name: &'static str,
    about: &'static str,
    /// The packages of Debian that it needs, beyond those of every Debian.
    tools: &'static [&'static [Tool]],
    /// Lists the items that it will build or download into the cache, without those in the cache.
    unfetched: fn(&Path) -> Vec<String>,
    run: fn(&mut Tally) -> Result<()>,
}

/// From the fastest to the slowest.
const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the sources are formatted", tools: &[], unfetched: nothing, run: fmt },
    Step {
        name: "packages",
        about: "the required programs and libraries are in their listed Debian packages",
        tools: EVERYTHING,
        unfetched: nothing,
        run: needs::check,
    },
    Step {
        name: "clippy",
        about: "no warnings in any target",
        tools: &[LINKER, FUZZ],
        unfetched: nothing,
        run: clippy,
    },
    Step {
        name: "rustdoc",
        about: "the documentation builds, and its links are valid",
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
        about: "unit and integration tests, with services confined to their system calls; with system calls that fail",
        tools: &[LINKER, SURROUNDINGS, TRACER],
        unfetched: test_runner,
        run: tests,
    },
    Step {
        name: "loom",
        about: "all interleavings of threads that use a heap's memory",
        tools: &[LINKER],
        unfetched: test_runner,
        run: loom,
    },
    Step {
        name: "huge-pages",
        about: "heaps over huge pages, which root reserves",
        tools: &[LINKER],
        unfetched: test_runner,
        run: huge::test,
    },
    Step {
        name: "sepolicy",
        about: "the SELinux policy with a small model of the platform: permitted and forbidden accesses",
        tools: &[SEPOLICY],
        unfetched: nothing,
        run: sepolicy::run,
    },
    Step {
        name: "boards",
        about: "overlays compared with fdtoverlay; device trees of real boards, from ../shared/dts",
        tools: &[LINKER, DEVICE_TREE],
        unfetched: test_runner,
        run: trees::boards,
    },
    Step {
        name: "trees",
        about: "the device trees of Debian's kernels for ARM, as blobs and as sources, compared with libfdt",
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
        about: "libanion: header, installation, programs in C and C++ with gcc, clang and sanitizers; unmodified programs",
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
        about: "the commands of README.md, the files of the Debian package, and the report in a browser",
        tools: &[LINKER, DIST, BROWSER],
        unfetched: nothing,
        run: |tally| [readme::run, install::test, crate::browser::check].iter().try_for_each(|of| of(tally)),
    },
    Step {
        name: "android-bp",
        about: "Android's own tool parses Android.bp and accepts its format",
        tools: &[BPFMT],
        unfetched: nothing,
        run: android::format,
    },
    Step {
        name: "aidl",
        about: "Android's compiler accepts the interface, frozen versions are unchanged, and the committed Rust code equals the generated code",
        tools: &[LINKER, ARCHIVE, BPFMT],
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
        name: "fuzz",
        about: "each fuzzer of what reads bytes of clients and files, for a minute",
        tools: &[LINKER, FUZZ],
        unfetched: nothing,
        run: fuzz::test,
    },
    Step {
        name: "vts-socket",
        about: "the conformance suites of the service and of the mapper, over a Unix socket",
        tools: &[LINKER],
        unfetched: nothing,
        run: conformance::over_socket,
    },
    Step {
        name: "vts-guests",
        about: "the same over kernel binder, in guests with different kernels: with ION, without contiguous memory, and with a contiguous heap that cannot allocate; Debian 13 with systemd",
        tools: vm::TOOLS,
        unfetched: vm::unfetched,
        run: vts_guests,
    },
    Step {
        name: "soak",
        about: "half a million allocations by clients that die at random; two minutes of cargo xtask chaos",
        tools: &[LINKER],
        unfetched: nothing,
        run: soak::run,
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

/// The step that runs beside the others from the start: its guests leave one processor idle at
/// times, as the other steps do.
const BESIDE: &str = "vts-guests";

/// Installs the packages of the steps, runs the steps until one fails, and prints their times and
/// counts.
///
/// # Errors
/// If a step failed; the message contains the command that runs it alone.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    if args.list {
        for step in STEPS {
            println!("{:<13} {}", step.name, step.about);
        }
        return Ok(());
    }
    let is_wanted = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    let steps: Vec<&Step> = STEPS.iter().filter(is_wanted).collect();
    let (start, rows) = (Instant::now(), Mutex::default());
    let result = run_step(&rows, "install", |_| prepare(&steps)).and_then(|()| run_steps(&steps, &rows));
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{}", summary(rows, &Spent::since(start)));
    result
}

/// Runs steps; the one that can run beside the others does. After a failure no other step begins.
fn run_steps(steps: &[&Step], rows: &Mutex<Vec<Row>>) -> Result<()> {
    let (beside, others): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| step.name == BESIDE);
    let has_failed = AtomicBool::new(false);
    let run_all = |steps: &[&Step]| {
        steps.iter().take_while(|_| !has_failed.load(Ordering::Relaxed)).try_for_each(|step| {
            println!("\n==> {}: {}", step.name, step.about);
            run_step(rows, step.name, step.run).with_context(|| {
                has_failed.store(true, Ordering::Relaxed);
                vm::give_up();
                format!("step `{0}` failed; to run it alone: cargo xtask test --only {0}", step.name)
            })
        })
    };
    thread::scope(|scope| {
        let beside = scope.spawn(|| run_all(&beside));
        let result = run_all(&others);
        // The first failure is the cause; guests that were ended because of it are none.
        result.and(beside.join().unwrap_or_else(|_| Err(anyhow!("step `{BESIDE}` panicked"))))
    })
}

/// Prints the builds and downloads of the steps, and installs their packages.
fn prepare(steps: &[&Step]) -> Result<()> {
    let cache = cache_dir()?;
    let mut lines: Vec<String> = steps.iter().flat_map(|step| (step.unfetched)(&cache)).collect();
    lines.sort();
    lines.dedup();
    if !lines.is_empty() {
        println!("the steps will do the following once, with results in {}:", cache.display());
    }
    for line in lines {
        println!("  {line}");
    }
    ensure_tools(&steps.iter().flat_map(|step| step.tools.concat()).collect::<Vec<_>>())
}

fn fmt(_: &mut Tally) -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

/// Runs clippy, also on the programs alone: with tests, more of the service is used and visible.
fn clippy(_: &mut Tally) -> Result<()> {
    let all = ["--workspace", "--all-targets", "--features", "anion-fuzz/link"];
    run(cargo().arg("clippy").args(all).args(["--", "-D", "warnings"]))?;
    run(cargo().args(["clippy", "--workspace", "--", "-D", "warnings"]))
}

/// Builds the documentation for other programs, and for developers of this one.
fn rustdoc(_: &mut Tally) -> Result<()> {
    let document = ["doc", "--workspace", "--no-deps"];
    run(cargo().args(document).env("RUSTDOCFLAGS", "-Dwarnings"))?;
    run(cargo().args(document).arg("--document-private-items").env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Runs the tests. Services are confined to the system calls of their policy, here, in later steps
/// that have a policy, and in the guests; those of README.md's commands and of plain `cargo test`
/// are not.
fn tests(tally: &mut Tally) -> Result<()> {
    run_tests(nextest()?.arg("--workspace").env("ANION_SECCOMP", "built-in"), tally)?;
    crate::faults::test(tally)
}

/// Runs the model checker. The feature replaces a lock with the model checker's, with which no
/// other test can run.
fn loom(tally: &mut Tally) -> Result<()> {
    // `--lib` would link the library of the Python package, which has no tests, with Python's.
    let packages = ["--workspace", "--exclude", "anion-python", "--lib", "--features", "anion/loom"];
    run_tests(nextest()?.args(packages).args(["-E", "package(anion) & test(interleavings)"]), tally)
}

fn doctests(tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    let (status, counted) = count_tests(command.args(["test", "--workspace", "--doc"]))?;
    *tally += counted;
    ensure!(status.success(), "`{}` failed: {status}", line_of(&command));
    Ok(())
}

/// Returns `cargo nextest run`. Builds it into the cache if it is not installed.
pub(crate) fn nextest() -> Result<Command> {
    let mut command = cargo();
    if find_program("cargo-nextest").is_none() {
        command.env("PATH", path_with(&ensure_crate(NEXTEST)?));
    }
    command.args(["nextest", "run"]);
    Ok(command)
}

/// Runs a test runner, which must run at least one test.
pub(crate) fn run_tests(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let (status, counted) = count_tests(command)?;
    *tally += counted;
    let line = line_of(command);
    ensure!(status.success(), "`{line}` failed: {status}");
    ensure!(counted.is_success(), "`{line}` exited with 0, but reported {counted}");
    Ok(())
}

fn vts_guests(tally: &mut Tally) -> Result<()> {
    vm::run(&VmArgs::in_pairs(), tally)
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

    /// Returns a step without packages.
    fn step(name: &'static str, run: fn(&mut Tally) -> Result<()>) -> Step {
        Step { name, about: "", tools: &[], unfetched: nothing, run }
    }

    fn passes(tally: &mut Tally) -> Result<()> {
        *tally += Tally::one(true);
        Ok(())
    }

    fn fails(_: &mut Tally) -> Result<()> {
        Err(anyhow!("it failed"))
    }

    /// Runs these steps; returns the message of the first error and the names of the steps that
    /// ran.
    fn ran(steps: &[&Step]) -> (Option<String>, Vec<&'static str>) {
        let rows = Mutex::default();
        let failed = run_steps(steps, &rows).err().map(|error| error.to_string());
        let mut names: Vec<_> = rows.into_inner().expect("not poisoned").iter().map(|row| row.name).collect();
        names.sort_unstable();
        (failed, names)
    }

    #[test]
    fn no_step_begins_after_one_that_failed_and_the_message_names_that_one() {
        let [first, second, third] = [step("first", passes), step("second", fails), step("third", passes)];
        let (failed, names) = ran(&[&first, &second, &third]);
        assert_eq!(
            failed.as_deref(),
            Some("step `second` failed; to run it alone: cargo xtask test --only second")
        );
        assert_eq!(names, ["first", "second"]);
        assert_eq!(ran(&[&first, &third]), (None, vec!["first", "third"]));
    }

    #[test]
    fn the_step_beside_the_others_runs_with_them_and_can_fail_alone() {
        let [other, good, bad] = [step("other", passes), step(BESIDE, passes), step(BESIDE, fails)];
        assert_eq!(ran(&[&other, &good]), (None, vec!["other", BESIDE]));
        let (failed, names) = ran(&[&bad]);
        assert!(failed.is_some_and(|failed| failed.contains(BESIDE)));
        assert_eq!(names, [BESIDE]);
        assert!(STEPS.iter().any(|step| step.name == BESIDE));
    }

    #[test]
    fn every_list_of_tools_is_taken_by_a_step() {
        for list in EVERYTHING {
            let mut others = STEPS.iter().filter(|step| step.name != "packages");
            assert!(others.any(|step| step.tools.contains(list)), "{list:?}");
        }
    }
}
