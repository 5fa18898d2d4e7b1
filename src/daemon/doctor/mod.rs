// SPDX-License-Identifier: Apache-2.0
//! `--doctor`: reports the features of this machine, the requirements of the configuration, and the
//! necessary changes.
//!
//! It examines the machine itself and needs no service. Each module checks its part and returns
//! lines ([`finding`]). Files are read below a [`root`], so that tests can supply others.
//! [`proofs`] tests mechanisms with buffers of this process. [`config`] builds the heaps as the
//! service does, on a machine of which nothing is taken ([`rehearsal`]).

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

/// Exit code: the machine lacks something that the configuration needs.
const WANTING: u8 = 4;
/// Exit code: the configuration cannot be read or checked against this machine, or the report
/// cannot be written.
const FAILED: u8 = 5;

/// Writes the findings to standard output, also after an error, and errors to standard error. The
/// exit code is 0 if the machine meets all requirements of the configuration, [`WANTING`] if not,
/// and [`FAILED`] if this cannot be determined.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let shown = page_size().context("cannot determine the page size").and_then(|page| {
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

/// Examines the machine. The second value is the reason if the configuration could not be checked
/// against it.
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

/// Prints the report, and returns the unmet requirements. A reader that closed its end of the pipe
/// is no error.
fn show(diagnosis: &Diagnosis, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    match diagnosis.print(arguments.json, arguments.all, &mut io::stdout().lock()) {
        Ok(()) => Ok(diagnosis.wanting()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Vec::new()),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

fn complain(message: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "aniond: {message}");
}

/// Returns the findings about the machine.
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
