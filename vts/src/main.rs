// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of `vendor.anion.allocator`: tests any implementation through its
//! interface.
//!
//! It depends only on the AIDL files, and for a mapper of graphic buffers on the C interface
//! (`mapper`, `--mapper`). Every test runs once for each endpoint, under the name `<kind of
//! endpoint>::<test>`; those of the mapper run once, as `mapper::<test>`. A test that does not
//! apply is reported as ignored, with the reason. Processes of different uids may run the suite at
//! the same time against one service. During a run, its own uid must have no other client.
//!
//! Exit code: 0 if all tests that ran passed, 101 if one failed, 2 if nothing was tested.

#![deny(unsafe_code)]
#![expect(non_snake_case, reason = "fields of AIDL types are named as in the .aidl files")]

mod child;
mod graphics;
mod harness;
mod listener;
mod mapper;
mod outcome;
mod request;
#[expect(unsafe_code, reason = "mappings and received descriptors; the only folder with unsafe code")]
mod sys;
mod target;
mod tests;

use anion_ipc::{Endpoint, INTERFACE_NAME, SERVICE_NAME, declared_instances};
use anyhow::{Context, Result, bail};
use clap::Parser;
use harness::Fixture;
use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outcome::{Inapplicable, Test};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use target::Target;

/// Nothing was tested: bad arguments, no service, or filters that exclude all tests.
const NOTHING_TESTED: u8 = 2;

/// Check that services of vendor.anion.allocator keep their contract.
#[derive(Parser)]
#[command(name = "anion-vts", version)]
struct Options {
    /// Service to test: unix:PATH, binder, or binder:DEVICE; repeat the option for more
    ///
    /// Without it, the suite tests every instance that the device's VINTF manifest declares.
    #[arg(long = "endpoint", value_name = "ENDPOINT", value_delimiter = ',')]
    #[cfg_attr(not(soong), arg(env = "ANION_VTS_ENDPOINTS"))]
    endpoints: Vec<Endpoint>,
    /// Two uids under which tests attack each other; needs root
    #[arg(long, value_name = "UID,UID", value_parser = two_uids)]
    #[cfg_attr(not(soong), arg(env = "ANION_VTS_UIDS"))]
    uids: Option<[u32; 2]>,
    /// Library to test as a mapper of Android's version 5, with buffers of --graphics
    #[arg(long, value_name = "LIBRARY", requires = "graphics")]
    mapper: Option<PathBuf>,
    /// Number of allocations and closes in tests of accounts
    #[arg(long, value_name = "N", default_value_t = 400)]
    rounds: usize,
    /// Graphics allocator of the same service: unix:PATH, binder, or binder:DEVICE
    #[arg(long, value_name = "ENDPOINT")]
    graphics: Option<Endpoint>,
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

#[expect(clippy::print_stderr, reason = "the only place that reports an error of the program itself")]
fn exit_code(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("anion-vts: {error:#}");
        ExitCode::from(NOTHING_TESTED)
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let targets = targets(&options.endpoints)?;
    if options.uids.is_some() && !nix::unistd::geteuid().is_root() {
        bail!("--uids needs root, which alone can change its uid");
    }
    raise_descriptor_limit()?;
    let (mut trials, mut is_tight) = (Vec::new(), false);
    for (index, target) in targets.iter().enumerate() {
        let fixture =
            Arc::new(Fixture::new(target, options).with_context(|| format!("cannot test {target}"))?);
        is_tight |= fixture.is_tight;
        let prefix = prefix(target, &targets[..index]);
        trials.extend(tests::all().map(|test| trial(&prefix, test, &fixture)));
    }
    if let Some((library, endpoint)) = options.mapper.as_ref().zip(options.graphics.as_ref()) {
        trials.extend(graphics::trials(library, endpoint, targets[0].clone(), is_tight)?);
    }
    let conclusion = libtest_mimic::run(&options.harness, trials);
    if !options.harness.list && !has_tested(&conclusion) {
        bail!("no test ran: the filters exclude all tests, or all others are ignored");
    }
    Ok(conclusion.exit_code())
}

fn two_uids(text: &str) -> Result<[u32; 2]> {
    let uids = text.split_once(',').and_then(|(one, other)| Some([one.parse().ok()?, other.parse().ok()?]));
    uids.filter(|[one, other]| one != other && *one != 0 && *other != 0)
        .with_context(|| format!("uids are {text:?}, but they must be two different numbers other than 0"))
}

fn has_tested(conclusion: &Conclusion) -> bool {
    conclusion.num_passed + conclusion.num_failed > 0
}

/// Returns the default instance at every endpoint. Without endpoints, returns every instance that
/// the device declares.
fn targets(endpoints: &[Endpoint]) -> Result<Vec<Target>> {
    let at = |endpoint: &Endpoint| Target { endpoint: endpoint.clone(), name: SERVICE_NAME.to_owned() };
    if !endpoints.is_empty() {
        return Ok(endpoints.iter().map(at).collect());
    }
    let instances = declared_instances(INTERFACE_NAME)?;
    let Some(endpoint) = Endpoint::default_binder().filter(|_| !instances.is_empty()) else {
        bail!(
            "nothing to test: this device declares no instance of {INTERFACE_NAME}; give --endpoint unix:PATH or \
             --endpoint binder"
        );
    };
    let named =
        |instance| Target { endpoint: endpoint.clone(), name: format!("{INTERFACE_NAME}/{instance}") };
    Ok(instances.into_iter().map(named).collect())
}

/// Returns `socket` or `binder`, with a number from the second of a kind on.
fn prefix(target: &Target, earlier: &[Target]) -> String {
    let kind = |target: &Target| match target.endpoint {
        Endpoint::Socket(_) => "socket",
        Endpoint::Binder(_) => "binder",
    };
    match earlier.iter().filter(|other| kind(other) == kind(target)).count() {
        0 => kind(target).to_owned(),
        others => format!("{}{}", kind(target), others + 1),
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

/// Raises the limit of descriptors, because tests hold many buffers at once.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
