// SPDX-License-Identifier: Apache-2.0
//! `anionctl report`: writes one page with charts of the service's activity.

mod charts;
mod style;
mod svg;

use crate::Service;
use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::heaps::{self, fetch_stats};
use crate::inspect::dump_as;
use crate::journal::{self, Event, Journal};
use crate::output::{self, Output, Report};
use crate::rows::StatsRow;
use crate::users;
use charts::{Mark, Step, bars, map, parts, steps};
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Duration;
use style::STYLE;
use svg::escaped;

/// The part of the service's dump that the report uses.
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
    /// Only for memory that is set aside.
    map: Option<Map>,
}

/// Ranges of the memory that is set aside for a heap.
#[derive(Debug, Deserialize)]
struct Map {
    free: Vec<(u64, u64)>,
    pooled: Vec<(u64, u64)>,
}

/// The result of the command.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    heaps: usize,
    events: usize,
}

/// Writes the page.
///
/// # Errors
/// The errors of the service; [`Failure::Local`] if the file cannot be written.
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

/// Returns the page. It is also valid XML, so that any tool can read it.
fn page(endpoint: &str, dump: &Dump, stats: &[StatsRow], journal: &Journal) -> String {
    let ServiceFacts { version, uid, configuration } = &dump.service;
    let sections: String = dump.heaps.iter().map(|heap| section(heap, stats, journal)).collect();
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/><title>Anion at {0}</title>\
         <style>{STYLE}</style></head><body>\n<h1>Anion at {0}</h1>\n\
         <p>aniond {1}, user {2}, configuration {3}</p>\n<p>{4}; memory pressure: {5}</p>\n{6}{sections}</body></html>\n",
        escaped(endpoint),
        escaped(version),
        escaped(&users::name(*uid)),
        escaped(configuration),
        recorded(journal),
        escaped(&dump.pressure),
        summary(&dump.heaps, stats)
    )
}

/// Returns a text with the time that the journal covers.
fn recorded(journal: &Journal) -> String {
    let first = journal.events.first().map_or(journal.now_ns, |event| event.at_ns);
    let span = Duration::from_nanos(journal.now_ns.saturating_sub(first)).as_secs_f64();
    let lost = match journal.lost {
        0 => String::new(),
        lost => format!(", after {lost} that the journal no longer has"),
    };
    format!("{} events in the last {span:.1} s{lost}", journal.events.len())
}

/// Returns a table of the heaps.
fn summary(heaps: &[HeapFacts], stats: &[StatsRow]) -> String {
    const COLUMNS: [&str; 8] =
        ["heap", "held", "peak", "buffers allocated", "pool hits", "p50", "p99", "refused"];
    let names: String = COLUMNS.iter().map(|name| format!("<th>{name}</th>")).collect();
    let row = |heap: &HeapFacts| {
        let stats = stats.iter().find(|stats| stats.heap == heap.name)?;
        let cells = [
            heap.name.clone(),
            output::size(stats.live_bytes),
            output::size(stats.alloc_bytes_wm),
            stats.allocations.to_string(),
            hits(stats),
            stats.allocate_latency.bound(50),
            stats.allocate_latency.bound(99),
            stats.failures.total().to_string(),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        Some(format!("<tr>{cells}</tr>"))
    };
    let rows: String = heaps.iter().filter_map(row).collect();
    format!("<div class=\"summary\"><table><tr>{names}</tr>{rows}</table></div>\n")
}

/// Returns the section of one heap.
fn section(heap: &HeapFacts, stats: &[StatsRow], journal: &Journal) -> String {
    let (id, name) = (escaped(&heap.name), &heap.name);
    let backing = escaped(&heap.backing);
    let heading = format!("<h2>{id} <small>{backing}</small></h2>");
    let stats = stats.iter().find(|stats| &stats.heap == name);
    let is_idle = stats.is_some_and(|stats| stats.allocations == 0 && stats.failures.total() == 0);
    // The section of a heap without calls is collapsed.
    let (begin, end) = if is_idle && heap.map.is_none() {
        (format!("<details><summary>{heading} no calls yet</summary>"), "</details>")
    } else {
        (heading, "")
    };
    let mut text = format!("<section id=\"{id}\">{begin}\n");
    text += &stats.map_or(String::new(), |stats| tiles(stats, heap.capacity));
    text += "<div class=\"figures\">\n";
    let marks = marks(name, journal);
    let picture = steps(
        &format!("Bytes of {name} that clients held, over time"),
        &occupancy(name, journal),
        &marks,
        |bytes| output::size_of(whole(bytes)),
    );
    text += &figure("wide", "Held by clients", &picture, &legend_of_marks(&marks));
    if let (Some(ranges), Some(capacity)) = (&heap.map, heap.capacity) {
        text += &memory(name, ranges, capacity);
    }
    if let Some(stats) = stats {
        text += &pool(stats);
        let picture = bars(&format!("Calls of {name} by duration"), &latencies(stats));
        let latency = &stats.allocate_latency;
        let below = format!("half of the calls {}, 99 of 100 {}", latency.bound(50), latency.bound(99));
        text += &figure("", "How long calls took, within the service", &picture, &escaped(&below));
    }
    text + "</div>" + end + "</section>\n"
}

/// Returns a chart with its heading and the text below it, which is escaped.
fn figure(class: &str, heading: &str, picture: &str, below: &str) -> String {
    format!(
        "<figure class=\"{class}\"><h3>{}</h3>{picture}<figcaption>{below}</figcaption></figure>\n",
        escaped(heading)
    )
}

/// Returns the map of memory that is set aside, with the amount of each kind.
fn memory(heap: &str, ranges: &Map, capacity: u64) -> String {
    let Map { free, pooled } = ranges;
    let held = gaps(capacity, free.iter().chain(pooled));
    let kinds = [("held", &held), ("pooled", pooled), ("free", free)];
    let title = format!("The memory that is set aside for {heap}");
    let picture =
        map(&title, capacity, &kinds.map(|(kind, ranges)| (kind, ranges.as_slice())), output::size_of);
    let sum = |ranges: &[(u64, u64)]| ranges.iter().map(|(_, length)| length).sum();
    let largest = free.iter().map(|(_, length)| *length).max().unwrap_or(0);
    let below = legend(&kinds.map(|(kind, ranges)| (kind, kind, output::size_of(sum(ranges)))))
        + &format!("free pieces: {}, the largest {}", free.len(), output::size_of(largest));
    figure("wide", "Memory that is set aside", &picture, &below)
}

/// Returns the ranges of `bytes` bytes that are outside all of `ranges`.
fn gaps<'a>(bytes: u64, ranges: impl Iterator<Item = &'a (u64, u64)>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = ranges.copied().chain([(bytes, 0)]).collect();
    ranges.sort_unstable();
    let mut gaps = Vec::new();
    let mut covered = 0;
    for (offset, length) in ranges {
        if offset > covered {
            gaps.push((covered, offset - covered));
        }
        covered = covered.max(offset.saturating_add(length));
    }
    gaps
}

/// Returns charts of the origin of a heap's buffers, and of its released buffers.
fn pool(stats: &StatsRow) -> String {
    let [all, hits, misses] = [stats.allocations, stats.recycled, stats.pool_misses].map(count);
    let others = all.saturating_sub(hits).saturating_sub(misses);
    let kinds = [
        ("hit", "from the pool", hits),
        ("miss", "not in the pool", misses),
        ("other", "never pooled", others),
    ];
    let picture = parts(&format!("Where buffers of {} came from", stats.heap), &kinds);
    let facts = [
        ("preallocated", stats.warmed.to_string()),
        ("scrubbed for reuse", output::size(stats.scrubbed_bytes)),
        ("released and not pooled", heaps::discards(stats.discarded, &stats.discarded_by_cause)),
        ("refused requests", heaps::failures(&stats.failures)),
    ];
    let row = |(name, value): &(&str, String)| {
        format!("<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value))
    };
    let facts: String = facts.iter().map(row).collect();
    let below = legend(&kinds.map(|(class, name, count)| (class, name, count.to_string())))
        + &format!("<table>{facts}</table>");
    figure("", "Where buffers came from", &picture, &below)
}

/// Returns the legend of the marks in an occupancy chart, if there are any.
fn legend_of_marks(marks: &[Mark]) -> String {
    let kinds =
        [("refused", "refused requests"), ("pressure", "changes of memory pressure")].map(|(class, name)| {
            let count = marks.iter().filter(|mark| mark.class == class).count();
            (class, name, count)
        });
    let present: Vec<_> = kinds.into_iter().filter(|(_, _, count)| *count > 0).collect();
    let present: Vec<_> =
        present.iter().map(|(class, name, count)| (*class, *name, count.to_string())).collect();
    if present.is_empty() { String::new() } else { legend(&present) }
}

/// Returns the legend of the colours in a chart: class, name and amount of each.
fn legend(kinds: &[(&str, &str, String)]) -> String {
    let kind = |(class, name, amount): &(&str, &str, String)| {
        format!("<span><i class=\"key {class}\"></i>{} {}</span>", escaped(name), escaped(amount))
    };
    let kinds: String = kinds.iter().map(kind).collect();
    format!("<div class=\"legend\">{kinds}</div>")
}

/// Returns the main numbers of a heap.
fn tiles(stats: &StatsRow, capacity: Option<u64>) -> String {
    let refused = stats.failures.total();
    let name_of_held = capacity.map_or("held".to_owned(), |all| format!("held of {}", output::size_of(all)));
    let pooled = stats.pooled_bytes.saturating_add(stats.deferred_bytes);
    let tiles = [
        (name_of_held.as_str(), output::size(stats.live_bytes), false),
        ("peak", output::size(stats.alloc_bytes_wm), false),
        ("pooled", output::size(pooled), false),
        ("buffers allocated", stats.allocations.to_string(), false),
        ("pool hits", hits(stats), false),
        ("refused requests", refused.to_string(), refused > 0),
    ];
    let tile = |(name, value, is_bad): &(&str, String, bool)| {
        let class = if *is_bad { " class=\"bad\"" } else { "" };
        format!("<div{class}><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value))
    };
    format!("<dl class=\"tiles\">{}</dl>\n", tiles.iter().map(tile).collect::<String>())
}

/// Returns the percentage of poolable requests that the pool served.
fn hits(stats: &StatsRow) -> String {
    let requests = stats.recycled.saturating_add(stats.pool_misses);
    if requests > 0 { format!("{} %", stats.recycled.saturating_mul(100) / requests) } else { "-".to_owned() }
}

/// Returns a count of the interface as an unsigned number.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Returns the bytes that clients held of a heap, from the first event of the journal to now.
fn occupancy(heap: &str, journal: &Journal) -> Vec<Step> {
    let of_heap = |event: &Event| {
        let deal = event.deal.as_ref().filter(|deal| deal.heap == heap)?;
        Some(Step { seconds: seconds(event.at_ns), value: deal.live_bytes as f64 })
    };
    let now = journal.heaps.iter().find(|now| now.name == heap);
    let now = now.map(|now| Step { seconds: seconds(journal.now_ns), value: now.live_bytes as f64 });
    let mut steps: Vec<_> = journal.events.iter().filter_map(of_heap).chain(now).collect();
    // Calls of several threads may be recorded in another order than they ended.
    steps.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    steps
}

/// Returns the times of refused requests of a heap, and of changes of memory pressure.
fn marks(heap: &str, journal: &Journal) -> Vec<Mark> {
    let mark = |event: &Event| {
        let seconds = seconds(event.at_ns);
        let is_of_heap = event.deal.as_ref().is_some_and(|deal| deal.heap == heap);
        match event.what.as_str() {
            "refuse" if is_of_heap => {
                let cause = event.cause.as_deref().unwrap_or("unknown cause");
                Some(Mark { class: "refused", seconds, text: format!("refused: {cause}") })
            }
            "pressure" => {
                let level = event.level.as_deref().unwrap_or("unknown level");
                Some(Mark { class: "pressure", seconds, text: format!("memory pressure: {level}") })
            }
            _ => None,
        }
    };
    journal.events.iter().filter_map(mark).collect()
}

/// Converts a time since boot to seconds.
fn seconds(at_ns: u64) -> f64 {
    Duration::from_nanos(at_ns).as_secs_f64()
}

/// Returns the counts of calls by class of duration, without empty classes at both ends.
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
