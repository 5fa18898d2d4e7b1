// SPDX-License-Identifier: Apache-2.0
//! `anionctl report`: one page with pictures of what the service does.

mod svg;

use crate::Service;
use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::heaps::fetch_stats;
use crate::inspect::dump_as;
use crate::journal::{self, Event, Journal};
use crate::output::{self, Output, Report};
use crate::rows::StatsRow;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Duration;
use svg::{Step, bars, escaped, map, steps};

/// How the page looks, in light and in dark.
const STYLE: &str = "\
body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#222}\
svg{width:100%;height:auto;font-size:11px}svg text{fill:currentColor}\
.axis{stroke:#999;stroke-width:.5}.line{fill:none;stroke:#0072b2;stroke-width:1.5}.bar{fill:#0072b2}\
.held{fill:#0072b2}.pooled{fill:#e69f00}.free{fill:#ddd}\
td,th{text-align:right;padding:0 .8rem 0 0}td:first-child,th:first-child{text-align:left}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.free{fill:#444}}";

/// What the service's dump has for this.
#[derive(Debug, Deserialize)]
struct Dump {
    service: ServiceFacts,
    pressure: String,
    heaps: Vec<HeapFacts>,
}

#[derive(Debug, Deserialize)]
struct ServiceFacts {
    version: String,
    uid: u32,
    configuration: String,
}

#[derive(Debug, Deserialize)]
struct HeapFacts {
    name: String,
    backing: String,
    capacity: Option<u64>,
    /// Of memory that is set aside.
    map: Option<Map>,
}

/// Ranges of the memory that is set aside for a heap.
#[derive(Debug, Deserialize)]
struct Map {
    free: Vec<(u64, u64)>,
    pooled: Vec<(u64, u64)>,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    heaps: usize,
    events: usize,
}

/// Writes the page.
///
/// # Errors
/// As the service; [`Failure::Local`] if the file cannot be written.
pub(crate) fn run(args: &ReportArgs, service: &Service, output: &Output) -> Result<(), Failure> {
    let dump: Dump = dump_as(service.interface(), &["--json", "--map"])?;
    let stats = fetch_stats(service.interface())?;
    let journal = journal::read(service.interface(), 0)?;
    let page = page(&service.endpoint.to_string(), &dump, &stats, &journal);
    let file = args.html.display().to_string();
    fs::write(&args.html, page).map_err(|error| Failure::local(&format!("cannot write {file}"), &error))?;
    output.show(&Written { file, heaps: dump.heaps.len(), events: journal.events.len() })
}

impl Report for Written {
    fn text(&self, _: Option<usize>) -> String {
        format!("{} heaps and {} events in {}", self.heaps, self.events, self.file)
    }
}

/// Returns the page. It is XML, too, so that any tool can read it.
fn page(endpoint: &str, dump: &Dump, stats: &[StatsRow], journal: &Journal) -> String {
    let ServiceFacts { version, uid, configuration } = &dump.service;
    let sections: String = dump.heaps.iter().map(|heap| section(heap, stats, journal)).collect();
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/><title>Anion</title><style>{STYLE}</style></head><body>\n\
         <h1>Anion at {}</h1>\n<p>aniond {} of uid {uid}, configuration {}; memory pressure: {}</p>\n\
         {sections}</body></html>\n",
        escaped(endpoint),
        escaped(version),
        escaped(configuration),
        escaped(&dump.pressure)
    )
}

/// Returns the part of one heap.
fn section(heap: &HeapFacts, stats: &[StatsRow], journal: &Journal) -> String {
    let (id, name) = (escaped(&heap.name), &heap.name);
    let mut text = format!("<section id=\"{id}\"><h2>{id}</h2>\n<p>{}</p>\n", escaped(&heap.backing));
    let title = format!("What clients held of {name} over time");
    text += &figure(&title, &steps(&title, &occupancy(name, journal), |bytes| output::size_of(whole(bytes))));
    if let (Some(ranges), Some(capacity)) = (&heap.map, heap.capacity) {
        let title = format!("The memory of {name}: held, pooled (orange), free (grey)");
        text +=
            &figure(&title, &map(&title, capacity, &[("pooled", &ranges.pooled), ("free", &ranges.free)]));
    }
    if let Some(stats) = stats.iter().find(|stats| &stats.heap == name) {
        text += &counters(stats);
        let title = format!("How long calls of {name} took: number of calls by time");
        text += &figure(&title, &bars(&title, &latencies(stats)));
    }
    text + "</section>\n"
}

fn figure(title: &str, picture: &str) -> String {
    format!("<figure>{picture}<figcaption>{}</figcaption></figure>\n", escaped(title))
}

/// Returns what clients held of a heap, from the first event of the journal to now.
fn occupancy(heap: &str, journal: &Journal) -> Vec<Step> {
    let seconds = |at_ns: u64| Duration::from_nanos(at_ns).as_secs_f64();
    let of_heap = |event: &Event| {
        let deal = event.deal.as_ref().filter(|deal| deal.heap == heap)?;
        Some(Step { seconds: seconds(event.at_ns), value: deal.live_bytes as f64 })
    };
    let now = journal.heaps.iter().find(|now| now.name == heap);
    let now = now.map(|now| Step { seconds: seconds(journal.now_ns), value: now.live_bytes as f64 });
    let mut steps: Vec<_> = journal.events.iter().filter_map(of_heap).chain(now).collect();
    // Calls of several threads may be noted in another order than they ended.
    steps.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    steps
}

/// Returns the calls by class of duration, without the empty classes at both ends.
fn latencies(stats: &StatsRow) -> Vec<(String, f64)> {
    let counts = &stats.allocate_latency.0;
    let used = |count: &i64| *count > 0;
    let (Some(first), Some(last)) = (counts.iter().position(used), counts.iter().rposition(used)) else {
        return Vec::new();
    };
    let name = |class: usize| {
        let micros = 1_u64.checked_shl(u32::try_from(class).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        format!("<{:.0?}", Duration::from_micros(micros))
    };
    (first..=last).map(|class| (name(class), counts[class] as f64)).collect()
}

/// Returns a table of what the heap has and did.
fn counters(stats: &StatsRow) -> String {
    let requests = stats.recycled.saturating_add(stats.pool_misses);
    let hits = if requests > 0 {
        format!("{} %", stats.recycled.saturating_mul(100) / requests)
    } else {
        "-".to_owned()
    };
    let cells = [
        ("held", output::size(stats.live_bytes)),
        ("peak", output::size(stats.alloc_bytes_wm)),
        ("pooled", output::size(stats.pooled_bytes)),
        ("buffers allocated", stats.allocations.to_string()),
        ("pool hits", stats.recycled.to_string()),
        ("pool misses", stats.pool_misses.to_string()),
        ("hits of those that could", hits),
        ("refused requests", stats.failures.total().to_string()),
    ];
    let [names, values] = [("th", true), ("td", false)].map(|(element, is_name)| {
        let cell = |(name, value): &(&str, String)| {
            format!("<{element}>{}</{element}>", escaped(if is_name { name } else { value }))
        };
        cells.iter().map(cell).collect::<String>()
    });
    format!("<table><tr>{names}</tr><tr>{values}</tr></table>\n")
}

/// Returns a number of bytes that was drawn.
fn whole(bytes: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for display; the cast saturates"
    )]
    let bytes = bytes.round() as u64;
    bytes
}
