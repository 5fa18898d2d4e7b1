// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fuzz`: runs libFuzzer on the code that parses bytes of clients and files, with the
//! compiler's coverage counters. A stable compiler is sufficient: it has the option for these
//! counters, too.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::needs::{FUZZ, LINKER};
use crate::process::{cargo, each_line, leashed, line_of, output_of, workspace_root};
use crate::release::executable;
use crate::tools::ensure_tools;

/// The fuzzers. Each has the folders with its first inputs, from the root of the checkout.
const FUZZERS: [(&str, &[&str]); 5] = [
    ("config", &["tests/dts", "etc"]),
    ("handle", &[]),
    ("policy", &["seccomp"]),
    ("session", &["fuzz/corpus/session"]),
    ("calls", &["fuzz/corpus/calls"]),
];

/// Counts edges and comparisons, for libFuzzer.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// The cargo profile: that of programs for emulated machines, with debug assertions and some
/// optimisation.
const PROFILE: &str = "guest";
/// Most bytes of an input.
const LONGEST: &str = "-max_len=4096";

/// Run the fuzzers of device trees, messages, calls, graphic handles and lists of system calls
#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Run only this fuzzer; repeat the option for more
    #[arg(long, value_name = "FUZZER", value_parser = fuzzers())]
    only: Vec<String>,

    /// Run each fuzzer for this many minutes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
}

fn fuzzers() -> PossibleValuesParser {
    FUZZERS.map(|(name, _)| name).into()
}

/// Runs the fuzzers for some minutes each. Inputs that reach new code stay in `target/fuzz/corpus`;
/// inputs that fail are in `target/fuzz/failures`.
///
/// # Errors
/// If they cannot be built, or one fails; the message contains the path of the failing input.
pub(crate) fn run(args: &FuzzArgs) -> Result<()> {
    ensure_tools(&[LINKER, FUZZ].concat())?;
    let messages = build()?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    for (name, begin) in FUZZERS.iter().filter(|(name, _)| wanted(name)) {
        let program = executable(&messages, &format!("fuzz-{name}"));
        let program = program.with_context(|| format!("cargo made no fuzzer {name}"))?;
        let inputs = run_one(name, &program, begin, 60 * args.minutes)?;
        println!("{name}: {inputs} inputs in {} min", args.minutes);
    }
    Ok(())
}

/// Builds the fuzzers, and returns cargo's messages.
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

/// Runs one fuzzer, and returns the number of inputs that it executed.
fn run_one(name: &str, program: &Path, begin: &[&str], seconds: u64) -> Result<u64> {
    let root = workspace_root();
    let [corpus, failures] =
        ["corpus", "failures"].map(|folder| root.join("target/fuzz").join(folder).join(name));
    for folder in [&corpus, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzzer = leashed(program);
    fuzzer.args([LONGEST, "-timeout=120", "-print_final_stats=1", "-verbosity=0", "-close_fd_mask=1"]);
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", failures.display()));
    fuzzer.arg(&corpus).args(begin.iter().map(|folder| root.join(folder)));
    let (mut inputs, mut last) = (None, Vec::new());
    let status = each_line(&mut fuzzer, |line| {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            inputs = count.trim().parse().ok();
        }
        last.push(line.to_owned());
    })?;
    let line = line_of(&fuzzer);
    ensure!(status.success(), "`{line}` failed: {status}\n{}", last.join("\n"));
    inputs.with_context(|| format!("`{line}` did not print the number of executed inputs"))
}
