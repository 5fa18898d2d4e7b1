// SPDX-License-Identifier: Apache-2.0
//! `--doctor`: what this machine offers, what the configuration wants, and what to change.
//!
//! It looks at the machine itself and needs no service. Each module finds its part and returns
//! lines ([`finding`]); whatever can be read from files is read below a [`root`], so that tests can
//! make up machines. What can be proved with a buffer of our own alone is in [`proofs`]. [`config`]
//! builds the heaps as the service does, on a machine of which nothing is taken ([`rehearsal`]).

mod binder;
mod build;
mod config;
mod devices;
mod finding;
mod kernel;
mod limits;
mod proofs;
mod rehearsal;
mod report;
mod root;
mod service;

use super::args::Arguments;
use crate::sys::memory::page_size;
use crate::units::PageSize;
use anyhow::Context;
use finding::Finding;
use report::Diagnosis;
use root::Root;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit code: something is missing that the configuration wants.
const WANTING: u8 = 4;
/// Exit code: the configuration cannot be read or held against this machine, or the report not be
/// written.
const FAILED: u8 = 5;

/// Shows what was found on standard output, whatever else fails, and complains on standard error.
/// The exit code is 0 if all that the configuration wants is here, [`WANTING`] if not, and
/// [`FAILED`] if that cannot be told.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let shown = page_size().context("cannot tell the page size").and_then(|page| {
        let (diagnosis, surveyed) = diagnose(arguments, page);
        let wanting = show(&diagnosis, arguments)?;
        surveyed.map(|()| wanting)
    });
    match shown {
        Ok(wanting) if wanting.is_empty() => ExitCode::SUCCESS,
        Ok(wanting) => {
            complain(&format!("missing: {}", wanting.join(", ")));
            ExitCode::from(WANTING)
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Examines the machine. The second part says why the configuration could not be held against it,
/// if so.
fn diagnose(arguments: &Arguments, page: PageSize) -> (Diagnosis, anyhow::Result<()>) {
    let mut findings = examine(&Root::machine(), page);
    let files = &arguments.config;
    let (survey, surveyed) = match config::survey(files, page) {
        Ok(survey) => (survey, Ok(())),
        Err(error) => (config::Survey::failed(files, &error), Err(error)),
    };
    let (finding, running) = service::running(service::connect(arguments.transport.endpoint()));
    findings.push(finding);
    findings.extend(survey.graphics.clone());
    (Diagnosis::new(findings, survey, running), surveyed)
}

/// Prints the report; what is wanting, of which a reader that went away has seen enough.
fn show(diagnosis: &Diagnosis, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    match diagnosis.print(arguments.json, arguments.all, &mut io::stdout().lock()) {
        Ok(()) => Ok(diagnosis.wanting()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Vec::new()),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

fn complain(message: &str) {
    // If standard error is closed, there is no other place to report to.
    let _ = writeln!(io::stderr(), "aniond: {message}");
}

/// Returns what the machine offers.
fn examine(root: &Root, page: PageSize) -> Vec<Finding> {
    let mut findings = vec![kernel::version(root, page.bytes())];
    findings.extend(binder::binder(root));
    findings.push(service::manager(root));
    findings.push(devices::ion(root, proofs::ask_ion));
    findings.extend(devices::dma_heaps(root));
    findings.extend([
        devices::udmabuf(root),
        devices::ashmem(root),
        kernel::available(root),
        kernel::huge_pages(root),
        kernel::shared_huge_policy(root),
        kernel::stalls(root, proofs::watch_stalls),
        limits::leases(root),
        limits::inotify(root),
        limits::descriptors(root),
        proofs::memfd_release(page),
        proofs::dma_buf_release(page),
    ]);
    findings
}
