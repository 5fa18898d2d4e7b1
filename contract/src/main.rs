// SPDX-License-Identifier: Apache-2.0
//! One table of calls and answers, asked of the kernel's ION, of its dma-heaps and of Anion's
//! heaps.
//!
//! The tables are in `allocation.rs`, `buffers.rs` and `read_only.rs`. Where Anion answers
//! otherwise than the kernel does, the row says why. Everything that is here is asked: each heap of
//! `/dev/ion`, each of `/dev/dma_heap`, and each of the service's. Under `anionctl run`, with
//! `--served`, the nodes are Anion's: they are asked as the kernel's are, and must answer as these
//! do; the rows of buffers are those of what Anion gives. `exports.rs` has what `/dev/udmabuf` must
//! answer for Anion's heaps to work, asked of the device alone.
//!
//! Exit code: 0 all answers were as the table says, 101 some were not, 2 somebody could not be
//! asked.

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

/// Somebody could not be asked.
const NOT_ASKED: u8 = 2;

/// Asks every allocator of this machine the same, and compares the answers with the table.
#[derive(Parser)]
#[command(name = "anion-contract", version)]
struct Options {
    /// Anion's service: unix:PATH, binder, or binder:DEVICE
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<Endpoint>,
    /// Fail unless this heap is here, as the names of the tests begin: ion/NAME, dma-heap/NAME,
    /// anion/NAME, or udmabuf
    #[arg(long = "require", value_name = "PARTY", value_delimiter = ',')]
    required: Vec<String>,
    /// The nodes are Anion's, as `anionctl run` gives them: their buffers are what Anion's are,
    /// which the descriptor tells
    #[arg(long)]
    served: bool,
    #[command(flatten)]
    harness: Arguments,
}

#[expect(clippy::print_stderr, reason = "the one place where the program reports why it asked no party")]
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
        bail!("{missing} is not here; those here: {}", names.join(", "));
    }
    if names.is_empty() {
        bail!(
            "there is no party to ask: no /dev/ion, no /dev/dma_heap, no /dev/udmabuf, and no service was named"
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
        // Of any heap, the least is the least of whichever it is.
        (allocation::Answer::Least, Ok(size)) if row.request.heap == allocation::Heap::Any => size.is_ok(),
        (allocation::Answer::Least, Ok(size)) => *size == Ok(party.least()) || is_silent(party),
        (allocation::Answer::Fails(name), Err(refusal)) => refusal.to_string() == *name,
        _ => false,
    };
    judge(is_expected, &format!("{expected:?}"), &format!("{found:?}"), row.why)
}

/// Returns whether fstat(2) tells no size: that of ashmem does not.
fn is_silent(party: &Party) -> bool {
    party.kind() == buffers::Kind::Ashmem
}

fn use_buffer(party: &Party, read_only: bool, row: &buffers::Row) -> Result<(), Failed> {
    let buffer = party.buffer(read_only).map_err(|refusal| Failed::from(refusal.to_string()))?;
    compare(row.expected(party.kind()), (row.run)(&buffer), Some(buffer.bytes), row.why)
}

/// Compares an answer with the table's. `bytes` are those of the buffer in question.
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
