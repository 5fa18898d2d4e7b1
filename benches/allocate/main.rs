// SPDX-License-Identifier: Apache-2.0
//! Measures the cost of Anion beside floors of the same run: bare exchanges that pass a memfd by
//! SCM_RIGHTS, without binder, heaps or accounts. Run with `cargo bench`; an argument such as
//! `latency` runs only that part. `cargo bench -- --help` lists the options.
//!
//! All variants of a table take turns within one run, so that a noisy machine disturbs them
//! equally; compare the ratios. A ratio is omitted if its floor moved by more than a fifth between
//! the halves of the run.

mod batch;
mod client;
mod cycles;
mod devices;
mod freeing;
mod graphics;
mod latency;
mod locks;
mod mapper;
mod plot;
mod programs;
mod raw;
mod ready;
mod report;
mod restart;
mod scale;
mod servers;
mod threads;
mod timed;
mod ways;

use anyhow::Context;
use clap::Parser;
use programs::PROGRAM;
use report::{Pass, Section};
use servers::{RAW_SERVER, Servers};
use std::path::{Path, PathBuf};

/// Sizes of buffers that clients request, in bytes.
const SIZES: [u64; 5] = [4 << 10, 64 << 10, 1 << 20, 8 << 20, 32 << 20];

/// Returns a size as text.
fn name_of(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

/// A table, and the function that measures it.
struct Part {
    name: &'static str,
    measure: fn(&Servers) -> anyhow::Result<Section>,
    /// Whether its results differ with everything on one processor.
    differs_on_one: bool,
}

const fn part(name: &'static str, measure: fn(&Servers) -> anyhow::Result<Section>) -> Part {
    Part { name, measure, differs_on_one: false }
}

const fn part_of_both(name: &'static str, measure: fn(&Servers) -> anyhow::Result<Section>) -> Part {
    Part { name, measure, differs_on_one: true }
}

const PARTS: [Part; 15] = [
    part_of_both("latency", latency::measure),
    part_of_both("batch", batch::measure),
    part_of_both("ready", ready::measure),
    part_of_both("threads", threads::measure),
    part("cycles", cycles::measure),
    part("scrub", freeing::scrub),
    part("trim", freeing::trim),
    part("scale", scale::measure),
    part("restart", restart::measure),
    part("locks", locks::measure),
    part_of_both("graphics", graphics::measure),
    part("mapper", mapper::measure),
    part("devices", devices::measure),
    part("in-process", devices::measure_in_process),
    part_of_both("programs", programs::measure),
];

/// Measure the costs of Anion's calls beside their floors
#[derive(Parser)]
#[command(name = "cargo bench --")]
struct Options {
    /// Parts to measure [default: all]
    #[arg(value_name = "PART", value_parser = PARTS.map(|part| part.name))]
    parts: Vec<String>,

    /// Keep the client, the servers and all of their threads on one processor
    #[arg(long)]
    one_processor: bool,

    /// Measure on all processors, then repeat on one processor the parts whose results differ there
    #[arg(long, conflicts_with = "one_processor")]
    both: bool,

    /// Write the figures to this file as JSON; - is the standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the tables to this file as Markdown; - is the standard output
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Draw the figures into this file as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Draw figures of an earlier run from its JSON, and measure nothing
    #[arg(long, value_name = "FILE", requires = "plot", conflicts_with_all = ["json", "markdown", "parts"])]
    from: Option<PathBuf>,

    /// cargo passes this flag
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(word) if word == RAW_SERVER => {
            return raw::serve(Path::new(&args.next().context("the socket's path")?));
        }
        Some(word) if word == PROGRAM => return programs::run(args),
        _ => {}
    }
    let options = Options::parse();
    let document = match &options.from {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => {
            let passes = measure(&options)?;
            report::write(&passes, options.json.as_deref(), options.markdown.as_deref())?;
            report::document(&passes)?
        }
    };
    options.plot.map_or(Ok(()), |file| plot::draw(&document, &file))
}

/// Measures the requested parts, on the requested processors.
fn measure(options: &Options) -> anyhow::Result<Vec<Pass>> {
    scale::raise_limit()?;
    let wanted =
        |part: &&Part| options.parts.is_empty() || options.parts.iter().any(|name| name == part.name);
    let pass = |parts: Vec<&Part>, title| {
        let servers = Servers::start()?;
        let sections =
            parts.into_iter().map(|part| (part.measure)(&servers)).collect::<anyhow::Result<_>>()?;
        anyhow::Ok(Pass { title, sections })
    };
    let mut passes = Vec::new();
    if !options.one_processor {
        passes.push(pass(PARTS.iter().filter(wanted).collect(), "all processors")?);
    }
    if options.one_processor || options.both {
        servers::pin_to_one_processor()?;
        let differs = |part: &&Part| options.one_processor || part.differs_on_one;
        passes.push(pass(PARTS.iter().filter(wanted).filter(differs).collect(), "one processor")?);
    }
    Ok(passes)
}
