// SPDX-License-Identifier: Apache-2.0
//! What Anion costs, beside the floor: a bare exchange that hands over a fresh memfd by SCM_RIGHTS, without binder,
//! heaps or books. `cargo bench`; `cargo bench -- --json` for scripts; a word such as `latency` runs that part alone.
//!
//! All variants of a table take turns within one run, so that a noisy machine disturbs them alike; read the ratios. A
//! ratio is withheld when what it is compared with moved by more than a fifth between the halves of the run. Nothing
//! is pinned to a processor.

mod cost;
mod devices;
mod latency;
mod report;
mod scale;
mod servers;
mod threads;
mod ways;

use anyhow::{Context, ensure};
use report::Section;
use servers::{RAW_SERVER, Servers};
use std::path::Path;

/// Buffers that clients ask for, in bytes.
const SIZES: [u64; 5] = [4 << 10, 64 << 10, 1 << 20, 8 << 20, 32 << 20];

/// A size in words.
fn name_of(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

type Part = fn(&Servers) -> anyhow::Result<Section>;

const PARTS: [(&str, Part); 8] = [
    ("latency", latency::measure),
    ("cpu", cost::cycles),
    ("scrub", cost::scrub),
    ("trim", cost::trim),
    ("threads", threads::measure),
    ("scale", scale::measure),
    ("devices", devices::measure),
    ("in-process", devices::measure_in_process),
];

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == RAW_SERVER) {
        return servers::raw_server(Path::new(args.get(1).context("the socket's path")?));
    }
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    for word in &wanted {
        let names = PARTS.map(|(name, _)| name);
        ensure!(names.contains(word), "part is {word:?}, but it must be one of {}", names.join(", "));
    }
    scale::raise_limit()?;
    let servers = Servers::start()?;
    let parts = PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    let sections = parts.map(|(_, part)| part(&servers)).collect::<anyhow::Result<Vec<_>>>()?;
    report::print(&sections, args.iter().any(|word| word == "--json"))
}
