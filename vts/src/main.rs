// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of `vendor.anion.allocator`: what any implementation must do, checked from outside.
//!
//! It knows the AIDL files alone. Every test runs once for every endpoint given, under the name
//! `<kind of endpoint>::<test>`; a test that has nothing to say in the circumstances is reported as ignored, with the
//! reason. Processes of different uids may run it at once against one service; while it runs, its own uid must have no
//! other client.
//!
//! Exit code: 0 all that ran passed, 101 something failed, 2 nothing was tested.

#![deny(unsafe_code)]
#![expect(non_snake_case, reason = "fields of AIDL types are named as in the .aidl files")]

mod child;
mod harness;
mod listener;
mod outcome;
mod request;
#[expect(unsafe_code, reason = "mappings and received descriptors; the only folder with unsafe code")]
mod sys;
mod tests;

use anion_ipc::Endpoint;
use anyhow::{Context, Result, bail};
use clap::Parser;
use harness::Fixture;
use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outcome::{Inapplicable, Test};
use std::process::ExitCode;
use std::sync::Arc;

/// Nothing was tested: bad arguments, no service, or filters that leave nothing.
const NOTHING_TESTED: u8 = 2;

/// Checks that services of vendor.anion.allocator keep their contract.
#[derive(Parser)]
#[command(name = "anion-vts", version)]
struct Options {
    /// Service to test: unix:PATH, binder, or binder:DEVICE; repeat it for more
    #[arg(long = "endpoint", value_name = "ENDPOINT", env = "ANION_VTS_ENDPOINTS", value_delimiter = ',')]
    endpoints: Vec<Endpoint>,
    /// Two uids that tests may take to attack one another; needs root
    #[arg(long, value_name = "UID,UID", env = "ANION_VTS_UIDS", value_parser = two_uids)]
    uids: Option<[u32; 2]>,
    #[command(flatten)]
    harness: Arguments,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((child::ARGUMENT, role)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return exit_code(child::main(role).map(|()| ExitCode::SUCCESS));
    }
    exit_code(run(&Options::parse()))
}

#[expect(clippy::print_stderr, reason = "the one place where the program reports why it tested nothing")]
fn exit_code(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("anion-vts: {error:#}");
        ExitCode::from(NOTHING_TESTED)
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.endpoints.is_empty() {
        bail!(
            "no endpoint to test: give --endpoint unix:PATH or --endpoint binder, or set ANION_VTS_ENDPOINTS"
        );
    }
    if options.uids.is_some() && !nix::unistd::geteuid().is_root() {
        bail!("--uids is given, but only root can take other uids");
    }
    raise_descriptor_limit()?;
    let mut trials = Vec::new();
    for (index, endpoint) in options.endpoints.iter().enumerate() {
        let fixture = Arc::new(
            Fixture::new(endpoint, options.uids).with_context(|| format!("cannot test {endpoint}"))?,
        );
        let prefix = prefix(endpoint, &options.endpoints[..index]);
        trials.extend(tests::all().map(|test| trial(&prefix, test, &fixture)));
    }
    let conclusion = libtest_mimic::run(&options.harness, trials);
    if !options.harness.list && !has_tested(&conclusion) {
        bail!("no test ran: the filters leave nothing, or all that they leave is ignored");
    }
    Ok(conclusion.exit_code())
}

fn two_uids(text: &str) -> Result<[u32; 2], String> {
    let uids = text.split_once(',').and_then(|(one, other)| Some([one.parse().ok()?, other.parse().ok()?]));
    uids.filter(|[one, other]| one != other && *one != 0 && *other != 0)
        .ok_or_else(|| format!("uids are {text:?}, but they must be two different numbers other than 0"))
}

fn has_tested(conclusion: &Conclusion) -> bool {
    conclusion.num_passed + conclusion.num_failed > 0
}

/// `socket` or `binder`, numbered from the second of a kind on.
fn prefix(endpoint: &Endpoint, earlier: &[Endpoint]) -> String {
    let kind = |endpoint: &Endpoint| match endpoint {
        Endpoint::Socket(_) => "socket",
        Endpoint::Binder(_) => "binder",
    };
    match earlier.iter().filter(|other| kind(other) == kind(endpoint)).count() {
        0 => kind(endpoint).to_owned(),
        others => format!("{}{}", kind(endpoint), others + 1),
    }
}

fn trial(prefix: &str, test: &'static Test, fixture: &Arc<Fixture>) -> Trial {
    let fixture = Arc::clone(fixture);
    Trial::ignorable_test(format!("{prefix}::{}", test.name), move || match fixture.run(test) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Inapplicable>() {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => Err(Failed::from(format!("{error:#}"))),
        },
    })
}

/// Tests hold many buffers at once.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
