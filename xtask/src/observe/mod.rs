// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask observe`: records which system calls the service makes under its filter, and checks
//! that its policy has these and a reason for every other.

#[cfg_attr(not(test), expect(dead_code, reason = "it is read here, and compiled by the service"))]
#[path = "../../../src/daemon/seccomp/policy.rs"]
mod policy;
mod review;
mod trace;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use tempfile::TempDir;

use self::policy::Policy;
use self::review::{Form, Observed, Review};
pub(crate) use self::trace::Tracer;
use crate::needs::{LINKER, TRACER};
use crate::process::{lossy_lines, workspace_root};
use crate::tally::Tally;
use crate::tools::ensure_tools;
use crate::vm::observe::kernels as observed_kernels;
use crate::vm::{self, VmArgs};
use crate::{conformance, release};

/// Guests are x86-64, and only this architecture is observed.
const POLICY: &str = include_str!("../../../seccomp/aniond-x86_64.policy");
const OBSERVED: &str = "seccomp/observed-x86_64.txt";
const ANDROID: &str = include_str!("../../../seccomp/android.policy");

const HEADER: &str = "\
# SPDX-License-Identifier: Apache-2.0
# Written by `cargo xtask observe`: the system calls of the service while it serves on x86-64, with the values of those
# arguments that aniond-x86_64.policy restricts, and where each was seen: on the host, or in the guest with that kernel.
";

/// The name of this machine among the places.
const HOST: &str = "host";
/// The kernels that differ most for the service: one with dma-heaps and udmabuf, one with ION and
/// ashmem.
const DEFAULT_KERNELS: [&str; 2] = ["debian-6.12", "ion"];

/// The prefix with which a guest reports a form; the rest of the line is the form.
pub(crate) const REPORTED: &str = "ANION-OBSERVED ";
/// The line after the last form.
pub(crate) const ALL_REPORTED: &str = "ANION-ALL-OBSERVED";

/// How long the last traces may be folded after the last service has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watch which system calls the service makes, and compare them with its seccomp policy
///
/// The service runs under strace: on this machine in the daemon's tests, the conformance suite over
/// a socket and a short soak; in guests in what `cargo xtask vm` runs with that kernel, less what
/// takes long and asks the same again. What it calls from the moment at which it asks for its
/// filter is written to seccomp/observed-x86_64.txt, with the arguments that the policy restricts.
/// The filter itself is not enforced meanwhile, so that what the policy lacks is seen and stops
/// nothing.
///
/// Then the policy, seccomp/aniond-x86_64.policy, is compared with the file, as the tests do each
/// time: it must allow all that was observed, and have a reason (a comment `# not observed: CALL
/// VALUE, CALL: WHY`) for whatever else it allows. What it lacks, and what it has without a reason,
/// is printed, and the exit status is 1.
///
/// Without options, the host, debian-6.12 and ion are observed, which takes about a quarter of an
/// hour. Where only some places are observed, the file keeps what it has of the others.
#[derive(Debug, Args)]
pub(crate) struct ObserveArgs {
    /// Observe on this machine
    #[arg(long)]
    host: bool,

    /// Observe in a guest with this kernel; repeat it for more
    #[arg(long, value_name = "NAME", value_parser = kernel_names())]
    kernel: Vec<String>,

    /// Observe nothing: compare the policy with what the file has
    #[arg(long, conflicts_with_all = ["host", "kernel"])]
    compare: bool,

    /// Observe nothing: print the calls in a trace from an Android device that
    /// seccomp/android.policy lacks. seccomp/README.md describes how to make the trace
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "kernel", "compare"])]
    trace: Option<PathBuf>,
}

fn kernel_names() -> PossibleValuesParser {
    observed_kernels()
        .map(|entry| PossibleValue::new(entry.name).help(entry.about()))
        .collect::<Vec<_>>()
        .into()
}

impl ObserveArgs {
    fn places(&self) -> Vec<&str> {
        if self.compare {
            return Vec::new();
        }
        let kernels: Vec<&str> = self.kernel.iter().map(String::as_str).collect();
        match (self.host, kernels.is_empty()) {
            (false, true) => [HOST].into_iter().chain(DEFAULT_KERNELS).collect(),
            (true, _) => [HOST].into_iter().chain(kernels).collect(),
            (false, false) => kernels,
        }
    }
}

/// Fold a trace that comes from strace on the standard input; the tracer runs this
#[derive(Debug, Args)]
pub(crate) struct FoldArgs {
    /// Where to write the system calls, or why they are not known; there is a FILE.running until
    /// that is done
    file: PathBuf,
}

/// Observes the service, and compares the result with the policy.
///
/// # Errors
/// A missing requirement, a failure of the observation, or all faults of the policy.
pub(crate) fn run(args: &ObserveArgs) -> Result<()> {
    if let Some(trace) = &args.trace {
        return compare_trace(trace);
    }
    let file = workspace_root().join(OBSERVED);
    let mut observed = match fs::read_to_string(&file) {
        Ok(text) => review::parse_observed(&text).context(OBSERVED)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Observed::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {OBSERVED}")),
    };
    for place in args.places() {
        let forms = observe(place).with_context(|| format!("{place} was not observed"))?;
        println!("{place}: {} forms of system calls", forms.len());
        replace(&mut observed, place, forms);
        // Written at once, because the next place may fail.
        fs::write(&file, text_of(&observed)).with_context(|| format!("cannot write {OBSERVED}"))?;
    }
    compare(&observed)
}

/// Compares the policy for Android with a trace from a device.
///
/// # Errors
/// If the file cannot be read or is not of strace; all calls that the policy lacks.
fn compare_trace(file: &Path) -> Result<()> {
    let policy = Policy::parse(ANDROID).context("seccomp/android.policy")?;
    let trace = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let forms = trace::forms(lossy_lines(trace), &policy).with_context(|| file.display().to_string())?;
    ensure!(!forms.is_empty(), "{} contains no system call", file.display());
    let observed = forms.into_iter().map(|form| (form, BTreeSet::from(["device".to_owned()]))).collect();
    let lacking = review::lacking(&policy, &observed);
    let lines: Vec<String> = lacking.iter().map(Form::to_string).collect();
    ensure!(lines.is_empty(), "seccomp/android.policy does not permit:\n{}", lines.join("\n"));
    println!("seccomp/android.policy permits all {} observed forms of calls", observed.len());
    Ok(())
}

/// Prints what the policy permits beyond what was observed.
///
/// # Errors
/// All faults of the policy.
fn compare(observed: &Observed) -> Result<()> {
    let review = Review::new(POLICY, observed).context("the policy")?;
    for element in &review.explained {
        println!("not observed, but there is a reason: {element}");
    }
    let faults = review.faults(observed);
    ensure!(faults.is_empty(), "the policy and {OBSERVED} do not agree:\n{}", faults.join("\n"));
    println!("all {} observed forms are allowed, and there is a reason for all else", observed.len());
    Ok(())
}

/// Replaces the forms that were observed at `place`.
fn replace(observed: &mut Observed, place: &str, forms: BTreeSet<Form>) {
    observed.retain(|_, places| {
        places.remove(place);
        !places.is_empty()
    });
    for form in forms {
        observed.entry(form).or_default().insert(place.to_owned());
    }
}

/// Returns the text of the file.
fn text_of(observed: &Observed) -> String {
    let line = |(form, places): (&Form, &BTreeSet<String>)| {
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        format!("{form}: {}\n", places.join(" "))
    };
    let lines: String = observed.iter().map(line).collect();
    format!("{HEADER}{lines}")
}

fn observe(place: &str) -> Result<BTreeSet<Form>> {
    ensure!(cfg!(target_arch = "x86_64"), "the observed system calls are those of x86-64");
    ensure_tools(&[TRACER, LINKER].concat())?;
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let forms = if place == HOST { on_host(&scratch)? } else { in_guest(place, &scratch)? };
    ensure!(!forms.is_empty(), "no service asked for its filter");
    Ok(forms)
}

fn on_host(scratch: &TempDir) -> Result<BTreeSet<Form>> {
    let service = release::build()?.aniond;
    let fold = std::env::current_exe().context("this program is nowhere")?;
    let (traces, script) = (scratch.path().join("traces"), scratch.path().join("aniond"));
    fs::create_dir(&traces).context("no directory for traces")?;
    for (directory, mode) in [(scratch.path(), 0o755), (&traces, 0o1777)] {
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).context("scratch directory")?;
    }
    let tracer = Tracer { service: &service, fold: &fold, traces: &traces };
    fs::write(&script, tracer.script()).context("cannot write the tracer's script")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("the tracer's script")?;
    let mut tally = Tally::default();
    conformance::exercise(&script, &mut tally)?;
    println!("{HOST}: {tally}");
    collect(&traces)
}

/// Returns the forms of all traces, after the last of them is complete.
fn collect(traces: &Path) -> Result<BTreeSet<Form>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = fs::read_dir(traces).context("the traces have gone")?;
        let files = files.map(|file| Ok(file?.path())).collect::<Result<Vec<PathBuf>>>()?;
        let running = files.iter().find(|file| file.extension().is_some());
        match running {
            None => {
                let lines = files.iter().map(fs::read_to_string).collect::<std::io::Result<String>>()?;
                return lines.lines().map(form).collect();
            }
            Some(file) if Instant::now() > deadline => {
                bail!("the service of {} has not ended within {PATIENCE:?}", file.display())
            }
            Some(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn in_guest(kernel: &str, scratch: &TempDir) -> Result<BTreeSet<Form>> {
    let log = scratch.path().join("log");
    let outcome = vm::run(&VmArgs::observed(kernel, log.clone()), &mut Tally::default());
    let Ok(log) = File::open(&log) else {
        return outcome.and_then(|()| bail!("the guest left no log"));
    };
    let (mut forms, mut is_all) = (BTreeSet::new(), false);
    for line in lossy_lines(log) {
        let line = line.context("cannot read the guest's log")?;
        is_all |= line.contains(ALL_REPORTED);
        if let Some((_, reported)) = line.split_once(REPORTED) {
            forms.insert(form(reported)?);
        }
    }
    match outcome {
        Ok(()) => ensure!(is_all, "the guest did not report all that was observed"),
        // An emulated guest in which every call is traced is too slow for some deadlines; its calls
        // count nevertheless.
        Err(error) if is_all => println!("{kernel}: all was observed, but not all went well: {error:#}"),
        Err(error) => return Err(error),
    }
    Ok(forms)
}

fn form(line: &str) -> Result<Form> {
    line.parse().map_err(|error| anyhow!("what a trace was folded to: {line:?}: {error}"))
}

/// Folds the standard input into a file: a line for each form, or a line with the error.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn fold(args: &FoldArgs) -> Result<()> {
    let policy = Policy::parse(POLICY).context("the policy")?;
    let text = match trace::fold(lossy_lines(std::io::stdin()), &policy) {
        Ok(forms) => forms.iter().flatten().map(|form| format!("{form}\n")).collect(),
        Err(error) => format!("! {error:#}\n"),
    };
    // Process ids are reused, and earlier lines count as well.
    let mut file = File::options().create(true).append(true).open(&args.file).context("cannot write")?;
    file.write_all(text.as_bytes()).context("cannot write")?;
    let mut running = args.file.clone().into_os_string();
    running.push(".running");
    fs::remove_file(running).context("the mark of a running trace has gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Observed {
        review::parse_observed(text).expect("sound")
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let observed = seen("read: host ion\nfcntl arg1=0x409: host\n");
        let text = text_of(&observed);
        assert!(text.ends_with(".\nfcntl arg1=0x409: host\nread: host ion\n"), "{text}");
        assert_eq!(seen(&text), observed);
    }

    #[test]
    fn a_place_that_is_observed_again_is_replaced() {
        let mut observed = seen("read: host ion\nwrite: host\n");
        replace(&mut observed, HOST, BTreeSet::from([form("close").expect("sound")]));
        assert_eq!(observed, seen("close: host\nread: ion\n"));
    }

    #[test]
    fn a_trace_that_was_not_understood_is_an_error() {
        let traces = tempfile::tempdir().expect("a directory");
        fs::write(traces.path().join("17"), "read\nfcntl arg1=0x1\n").expect("written");
        assert_eq!(collect(traces.path()).expect("sound").len(), 2);
        fs::write(traces.path().join("18"), "! not understood: \"x\"\n").expect("written");
        assert!(collect(traces.path()).expect_err("a fault").to_string().contains("not understood"));
    }

    #[test]
    fn without_options_all_is_observed() {
        let of = |host, kernel: &[&str]| {
            let kernel = kernel.iter().map(|name| (*name).to_owned()).collect();
            let args = ObserveArgs { host, kernel, compare: false, trace: None };
            args.places().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(false, &[]), ["host", "debian-6.12", "ion"]);
        assert_eq!(of(false, &["debian-7"]), ["debian-7"]);
        assert_eq!(of(true, &["debian-7"]), ["host", "debian-7"]);
        assert_eq!(of(true, &[]), ["host"]);
    }
}
