// SPDX-License-Identifier: Apache-2.0
//! Compares the answers of the kernel's ION, of its dma-heaps and of Anion's heaps with one table.
//!
//! The tables are in `allocation.rs`, `buffers.rs` and `read_only.rs`. If Anion's answer differs
//! from the kernel's, the row has the reason. The program tests everything on the machine: each
//! heap of `/dev/ion`, each of `/dev/dma_heap`, and each of the service's. Under `anionctl run`,
//! with `--served`, the nodes are Anion's: they get the kernel's tests and must give the kernel's
//! answers; the rows for buffers are those of Anion's kinds. `exports.rs` has the answers of
//! `/dev/udmabuf` that Anion's heaps need; only the device is tested.
//!
//! Exit code: 0 if all answers were the expected ones, 101 if some were not, 2 if a party could not
//! be reached.

#![deny(unsafe_code)]

mod allocation;
mod buffers;
mod exports;
mod party;
mod read_only;
#[expect(unsafe_code, reason = "raw system calls; the only folder with unsafe code")]
mod sys;

use anion_ipc::Endpoint;
use anyhow::{Result, bail};
use clap::Parser;
use exports::Device;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use party::Party;
use std::process::ExitCode;
use std::sync::Arc;

/// A party could not be reached.
const NOT_ASKED: u8 = 2;

/// Compare the answers of every allocator of this machine with the table.
#[derive(Parser)]
#[command(name = "anion-contract", version)]
struct Options {
    /// Anion's service: unix:PATH, binder, or binder:DEVICE
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<Endpoint>,
    /// Fail if this heap is missing; named as in the tests: ion/NAME, dma-heap/NAME, anion/NAME, or
    /// udmabuf
    #[arg(long = "require", value_name = "PARTY", value_delimiter = ',')]
    required: Vec<String>,
    /// Anion serves the device nodes, as under `anionctl run`: expect the answers for the kind of
    /// buffer that the descriptor shows
    #[arg(long)]
    served: bool,
    #[command(flatten)]
    harness: Arguments,
}

#[expect(clippy::print_stderr, reason = "the only place that reports an error before the tests")]
fn main() -> ExitCode {
    run(&Options::parse()).unwrap_or_else(|error| {
        eprintln!("anion-contract: {error:#}");
        ExitCode::from(NOT_ASKED)
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let parties = party::all(options.endpoint.as_ref(), options.served)?;
    let device = Device::open(party::page())?;
    let named = device.iter().map(|_| Device::NAME.to_owned());
    let names: Vec<String> = parties.iter().map(Party::name).chain(named).collect();
    if let Some(missing) = options.required.iter().find(|required| !names.contains(required)) {
        bail!("--require names {missing}, which this machine lacks; it has: {}", names.join(", "));
    }
    if names.is_empty() {
        bail!(
            "no allocator to test: no /dev/ion, /dev/dma_heap or /dev/udmabuf, and --endpoint names no service"
        );
    }
    let mut trials: Vec<_> = parties.into_iter().map(Arc::new).flat_map(|party| trials(&party)).collect();
    trials.extend(device.map(Arc::new).iter().flat_map(export_trials));
    Ok(libtest_mimic::run(&options.harness, trials).exit_code())
}

fn export_trials(device: &Arc<Device>) -> impl Iterator<Item = Trial> {
    exports::ROWS.iter().map(|row| {
        let (name, device) = (format!("{}::export::{}", Device::NAME, row.name), Arc::clone(device));
        Trial::test(name, move || compare(row.expected, (row.run)(&device), None, row.why))
    })
}

fn trials(party: &Arc<Party>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in allocation::ROWS {
        let expected = match party.as_ref() {
            Party::Ion { .. } => row.ion,
            Party::DmaHeap { .. } => row.dma_heap,
            Party::Anion { .. } => row.anion,
        };
        let Some(expected) = expected else { continue };
        let (name, party) = (format!("{}::allocate::{}", party.name(), row.name), Arc::clone(party));
        trials.push(Trial::test(name, move || ask(&party, row, expected)));
    }
    for row in buffers::ROWS {
        let (name, party) = (format!("{}::buffer::{}", party.name(), row.name), Arc::clone(party));
        trials.push(Trial::test(name, move || use_buffer(&party, false, row)));
    }
    for row in read_only::ROWS.iter().filter(|_| party.gives_read_only()) {
        let (name, party) = (format!("{}::read_only::{}", party.name(), row.name), Arc::clone(party));
        trials.push(Trial::test(name, move || use_buffer(&party, true, row)));
    }
    trials
}

fn ask(party: &Party, row: &allocation::Row, expected: allocation::Answer) -> Result<(), Failed> {
    let found = party.allocate(&row.request).map(party::size_of);
    let is_expected = match (&expected, &found) {
        // If the request admits any heap, the expected size is the smallest of all of them.
        (allocation::Answer::Least, Ok(size)) if row.request.heap == allocation::Heap::Any => size.is_ok(),
        (allocation::Answer::Least, Ok(size)) => *size == Ok(party.least()) || is_silent(party),
        (allocation::Answer::Fails(name), Err(refusal)) => refusal.to_string() == *name,
        _ => false,
    };
    judge(is_expected, &format!("{expected:?}"), &format!("{found:?}"), row.why)
}

/// Returns whether fstat(2) reports no size, as for ashmem.
fn is_silent(party: &Party) -> bool {
    party.kind() == buffers::Kind::Ashmem
}

fn use_buffer(party: &Party, read_only: bool, row: &buffers::Row) -> Result<(), Failed> {
    let buffer = party.buffer(read_only).map_err(|refusal| Failed::from(refusal.to_string()))?;
    compare(row.expected(party.kind()), (row.run)(&buffer), Some(buffer.bytes), row.why)
}

/// Compares an answer with the table's. `bytes` is the size of the buffer under test.
fn compare(
    expected: buffers::Answer,
    found: Result<i64, Errno>,
    bytes: Option<usize>,
    why: &str,
) -> Result<(), Failed> {
    let is_expected = match (expected, found) {
        (buffers::Answer::Gives(value), Ok(found)) => value == found,
        (buffers::Answer::GivesSize, Ok(found)) => bytes.is_some() && usize::try_from(found).ok() == bytes,
        (buffers::Answer::Fails(errno) | buffers::Answer::FailsBySomeKernels(errno), Err(found)) => {
            errno == found
        }
        (buffers::Answer::FailsBySomeKernels(_), Ok(found)) => found == 0,
        _ => false,
    };
    judge(is_expected, &format!("{expected:?}"), &format!("{found:?}"), why)
}

fn judge(is_expected: bool, expected: &str, found: &str, why: &str) -> Result<(), Failed> {
    if is_expected {
        return Ok(());
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    Err(Failed::from(format!("expected {expected}{why}, found {found}")))
}
