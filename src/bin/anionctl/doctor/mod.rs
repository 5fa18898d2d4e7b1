// SPDX-License-Identifier: Apache-2.0
//! `anionctl doctor`: what this machine offers, what the configuration wants, and what to change.
//!
//! It looks at the machine itself and needs no service. Each module finds its part and returns lines ([`finding`]);
//! whatever can be read from files is read below a [`root`], so that tests can make up machines. What can be proved with
//! a buffer of our own alone is in [`proofs`]. [`config`] builds the heaps as the service does, on a machine of
//! which nothing is taken ([`rehearsal`]).

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

use crate::Service;
use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::output::Output;
use anion::sys::memory::page_size;
use anion::units::PageSize;
use finding::Finding;
use report::Diagnosis;
use root::Root;
use std::io;

/// Shows what was found. `connect` looks for a running service.
///
/// # Errors
/// [`Failure::Check`] if something is missing that the configuration wants; [`Failure::Local`] if the configuration
/// cannot be read.
pub(crate) fn run(
    args: &DoctorArgs,
    connect: impl FnOnce() -> io::Result<Service>,
    output: &Output,
) -> Result<(), Failure> {
    let page = page_size().map_err(|error| Failure::local("cannot tell the page size", &error))?;
    let mut findings = examine(&Root::machine(), page);
    let survey = config::survey(args.config.as_deref(), page)?;
    let (finding, running) = service::running(connect());
    findings.push(finding);
    let diagnosis = Diagnosis::new(findings, survey, running);
    output.show(&diagnosis)?;
    diagnosis.verdict()
}

/// What the machine offers.
fn examine(root: &Root, page: PageSize) -> Vec<Finding> {
    let mut findings = vec![kernel::version(root, page.bytes())];
    findings.extend(devices::binder(root));
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
