// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fuzz`: runs libFuzzer on the code that parses bytes of clients and files, with the
//! compiler's coverage counters. A stable compiler is sufficient: it has the option for these
//! counters, too.
//!
//! Several processes run at once. Those of one fuzzer share its folder of inputs, from which each
//! takes the inputs that another one has added.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::needs::{FUZZ, LINKER};
use crate::process::{cargo, each_line, leashed, line_of, output_of, workspace_root};
use crate::release::executable;
use crate::tally::Tally;
use crate::tools::ensure_tools;

/// A fuzzer.
struct Fuzzer {
    name: &'static str,
    /// The folders with its first inputs, from the root of the checkout.
    begin: &'static [&'static str],
    /// Whether the service runs in its process. Each input then wakes some threads one after
    /// another, which takes a third of the time if all of them run on one processor.
    serves: bool,
}

const FUZZERS: [Fuzzer; 6] = [
    Fuzzer { name: "config", begin: &["fuzz/corpus/config", "tests/dts"], serves: false },
    Fuzzer { name: "handle", begin: &["fuzz/corpus/handle"], serves: false },
    Fuzzer { name: "policy", begin: &["seccomp"], serves: false },
    Fuzzer { name: "state", begin: &["fuzz/corpus/state"], serves: false },
    Fuzzer { name: "session", begin: &["fuzz/corpus/session"], serves: true },
    Fuzzer { name: "calls", begin: &["fuzz/corpus/calls"], serves: true },
];

/// Counts edges and comparisons, for libFuzzer.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// The cargo profile: that of programs for emulated machines, with debug assertions and some
/// optimisation.
const PROFILE: &str = "guest";
/// Most bytes of an input. libFuzzer cuts longer ones off.
const MAX_BYTES: u64 = 4096;
/// Seconds for which the test command runs each fuzzer.
const MINUTE: u64 = 60;

/// Run the fuzzers of device trees, messages, calls, graphic handles, lists of system calls and
/// states
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Run only this fuzzer; repeat the option for more
    #[arg(long, value_name = "FUZZER", value_parser = fuzzers())]
    only: Vec<String>,

    /// Run each fuzzer for this many minutes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,

    /// Run this many processes at once: of several fuzzers, or more than one of a fuzzer
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: u16,
}

fn fuzzers() -> PossibleValuesParser {
    FUZZERS.map(|fuzzer| fuzzer.name).into()
}

fn processors() -> u16 {
    available_parallelism().map_or(1, |count| u16::try_from(count.get()).unwrap_or(512).min(512))
}

/// Runs the fuzzers for some minutes each. Inputs that reach new code stay in `target/fuzz/corpus`;
/// inputs that fail are in `target/fuzz/failures`.
///
/// # Errors
/// If they cannot be built, or one fails or makes no inputs of its own; the message contains the
/// path of the failing input.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    ensure_tools(&[LINKER, FUZZ].concat())?;
    run_all(&args.only, MINUTE * args.minutes, args.jobs.into(), &mut Tally::default())
}

/// Runs each fuzzer for a minute, for the test command. Each counts as one test.
///
/// # Errors
/// As [`run`].
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    run_all(&[], MINUTE, processors().into(), tally)
}

/// Runs the wanted fuzzers, all for no names, for `seconds` each. Runs `jobs` processes at once.
fn run_all(only: &[String], seconds: u64, jobs: usize, tally: &mut Tally) -> Result<()> {
    let messages = build()?;
    let mut ready = Vec::new();
    for fuzzer in FUZZERS {
        let program = executable(&messages, &format!("fuzz-{}", fuzzer.name));
        let program = program.with_context(|| format!("cargo made no fuzzer {}", fuzzer.name))?;
        if only.is_empty() || only.iter().any(|only| only == fuzzer.name) {
            ready.push((fuzzer, program));
        }
    }
    let (at_once, processes) = split(jobs, ready.len());
    in_turn(&ready, at_once, tally, |place, (fuzzer, program)| {
        run_processes(fuzzer, program, place * processes..(place + 1) * processes, seconds)
    })
}

/// Calls `run` with each item and its place, `at_once` of them at the same time, and prints the
/// results. Each counts as one test. After a failure no other begins.
fn in_turn<T: Sync>(
    items: &[T],
    at_once: usize,
    tally: &mut Tally,
    run: impl Fn(usize, &T) -> Result<String> + Sync,
) -> Result<()> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new((tally, Ok(())));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while !has_failed.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place) else { break };
                    let result = run(place, item);
                    has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    *done.0 += Tally::one(result.is_ok());
                    match result {
                        Ok(line) => println!("{line}"),
                        Err(error) if done.1.is_ok() => done.1 = Err(error),
                        // It would be lost otherwise.
                        Err(error) => println!("{error:#}"),
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).1
}

/// Returns how many fuzzers run at once, and in how many processes each, if `jobs` processes may
/// run at once.
fn split(jobs: usize, fuzzers: usize) -> (usize, usize) {
    let processes = (jobs / fuzzers).max(1);
    (jobs.min(fuzzers), processes)
}

/// Builds the fuzzers, and returns cargo's messages. No other build has these options of the
/// compiler, so there is nothing to share with one but build scripts and macros.
fn build() -> Result<String> {
    println!("building the fuzzers");
    let mut command = cargo();
    command.args(["build", "--package", "anion-fuzz", "--features", "link", "--profile", PROFILE]);
    // With an explicit target, cargo does not apply RUSTFLAGS to build scripts, which have no
    // runtime for the counters.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(["--target", &target, "--message-format=json-render-diagnostics"]);
    command.env("CARGO_TARGET_DIR", workspace_root().join("target/fuzz")).env("RUSTFLAGS", COVERAGE);
    output_of(command.stderr(Stdio::inherit()))
}

/// Runs the processes with these numbers, of one fuzzer, at once. Returns a line with the number of
/// inputs that they executed, as libFuzzer counts them.
fn run_processes(fuzzer: &Fuzzer, program: &Path, numbers: Range<usize>, seconds: u64) -> Result<String> {
    let (start, processes) = (Instant::now(), numbers.len());
    let inputs = thread::scope(|scope| {
        let run = |number| move || run_one(fuzzer, program, number, seconds);
        let running: Vec<_> = numbers.map(|number| scope.spawn(run(number))).collect();
        let results = running.into_iter().map(|running| running.join());
        results.map(|result| result.unwrap_or_else(|_| bail!("a thread panicked"))).sum::<Result<u64>>()
    })?;
    let took = start.elapsed().as_secs().max(1);
    let of = if processes == 1 { String::new() } else { format!(" of {processes} processes") };
    Ok(format!("{}: {inputs} inputs{of} in {took} s, {} in a second", fuzzer.name, inputs / took))
}

/// Runs the process with this number, and returns the number of inputs that it executed.
fn run_one(fuzzer: &Fuzzer, program: &Path, number: usize, seconds: u64) -> Result<u64> {
    let root = workspace_root();
    let place = |folder: &str| -> Result<PathBuf> {
        let folder = root.join("target/fuzz").join(folder).join(fuzzer.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    };
    let (corpus, failures) = (place("corpus")?, place("failures")?);
    let folders: Vec<PathBuf> =
        [corpus].into_iter().chain(fuzzer.begin.iter().map(|folder| root.join(folder))).collect();
    let mut command = leashed(program);
    command.args(["-timeout=120", "-print_final_stats=1", "-verbosity=0", "-close_fd_mask=1"]);
    command.args([format!("-max_len={MAX_BYTES}"), format!("-max_total_time={seconds}")]);
    command.arg(format!("-artifact_prefix={}/", failures.display())).args(&folders);
    if fuzzer.serves {
        // This thread starts the process and then only waits.
        stay_on(number).context("cannot choose a processor")?;
    }
    let given = folders.iter().map(|folder| files(folder)).sum::<io::Result<u64>>()?;
    let mut last = Vec::new();
    let status = each_line(&mut command, |line| last.push(line.to_owned()))?;
    let line = line_of(&command);
    ensure!(status.success(), "`{line}` failed: {status}\n{}", last.join("\n"));
    executed(&last, given).with_context(|| format!("`{line}`"))
}

/// Returns the number of files in a folder and the folders in it.
fn files(folder: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// Returns the number of inputs that a fuzzer executed, from its output. At first it executes an
/// empty one and the `given` ones.
///
/// # Errors
/// If the output does not contain the number, or it executed no others.
fn executed(output: &[String], given: u64) -> Result<u64> {
    let mut counts = output
        .iter()
        .filter_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok());
    let inputs = counts.next().context("did not print the number of executed inputs")?;
    ensure!(inputs > given + 1, "executed {inputs} inputs, but {given} were given: it made none of its own");
    Ok(inputs)
}

/// Lets this thread, and the processes that it starts, run on one processor: each number selects
/// one of those that the thread may use.
fn stay_on(number: usize) -> rustix::io::Result<()> {
    let permitted = sched_getaffinity(None)?;
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&of| permitted.is_set(of)).collect();
    let mut one = CpuSet::new();
    one.set(processors[number % processors.len()]);
    sched_setaffinity(None, &one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fuzzer_is_one_test_and_none_begins_after_one_that_failed() {
        let mut tally = Tally::default();
        in_turn(&[1, 2, 3], 2, &mut tally, |place, item| Ok(format!("{place} {item}"))).expect("all pass");
        assert_eq!(tally, Tally { passed: 3, failed: 0 });
        let error = in_turn(&["good", "bad", "late"], 1, &mut tally, |_, item| match *item {
            "bad" => bail!("it found something"),
            item => Ok(item.to_owned()),
        });
        assert_eq!(error.expect_err("one fails").to_string(), "it found something");
        assert_eq!(tally, Tally { passed: 4, failed: 1 });
    }

    #[test]
    fn a_fuzzer_that_executes_only_the_given_inputs_fails() {
        let output = ["Done 4 runs", "stat::number_of_executed_units: 4"].map(str::to_owned);
        assert_eq!(executed(&output, 2).expect("one of its own"), 4);
        executed(&output, 3).expect_err("an empty one and the three");
        executed(&output[..1], 0).expect_err("no number");
    }

    #[test]
    fn processes_are_shared_among_the_fuzzers() {
        for (jobs, fuzzers, expected) in
            [(1, 5, (1, 1)), (2, 5, (2, 1)), (5, 5, (5, 1)), (16, 5, (5, 3)), (8, 1, (1, 8))]
        {
            assert_eq!(split(jobs, fuzzers), expected, "{jobs} processes for {fuzzers} fuzzers");
        }
    }

    #[test]
    fn every_fuzzer_runs_and_has_short_inputs_to_begin_with() {
        let root = workspace_root();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("a manifest");
        let built = manifest.lines().filter_map(|line| line.strip_prefix("name = \"fuzz-"));
        let mut built: Vec<_> = built.map(|name| name.trim_end_matches('"')).collect();
        let mut run = FUZZERS.map(|fuzzer| fuzzer.name);
        built.sort_unstable();
        run.sort_unstable();
        assert_eq!(built, run);
        for fuzzer in FUZZERS {
            let files = fuzzer.begin.iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect(folder));
            let lengths = files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len());
            assert!(lengths.filter(|length| *length <= MAX_BYTES).count() > 1, "{}", fuzzer.name);
        }
    }
}
