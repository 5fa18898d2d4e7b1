// SPDX-License-Identifier: Apache-2.0
//! Makes the dump that dumpsys, `dumpTo` and `anionctl dump` show.

mod journal;
mod rows;

use self::journal::JournalReport;
pub(super) use self::rows::ServiceRow;
use self::rows::{BufferRow, HeapRow, HugePagesRow, ReleaseRow, Report};
use crate::allocator::{Allocator, Caller, PressureLevel, UnknownHeap};
use crate::units::{Invalid, Uid};
use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

const HELP: &str = "\
arguments:
  --json       one JSON document
  --heap NAME  only this heap and its buffers
  --uid N      only buffers of this uid
  --map        with --json: which ranges of memory that is set aside are free and
               which are pooled
  --journal    one JSON document: the last calls, releases and changes of memory
               pressure, instead of the rest
  --since N    with --journal: from the event of this number on
  --service    one JSON document: who serves, and which configuration
  --help       this text
";

/// Parts and filters of a dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    json: bool,
    help: bool,
    map: bool,
    journal: bool,
    since: Option<u64>,
    service: bool,
    heap: Option<String>,
    uid: Option<Uid>,
}

/// Reason why there is no dump.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error(transparent)]
    UnknownHeap(#[from] UnknownHeap),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Arguments {
    /// Reads the arguments of a dump.
    ///
    /// # Errors
    /// If a word is not listed in [`HELP`].
    pub(super) fn parse(args: &[String]) -> Result<Self, Invalid> {
        let mut arguments = Self::default();
        let mut words = args.iter();
        while let Some(word) = words.next() {
            let mut value = |what: &str| {
                words.next().ok_or_else(|| Invalid::new("args", word, format!("{what} must follow")))
            };
            match word.as_str() {
                "--json" => arguments.json = true,
                "--help" => arguments.help = true,
                "--map" => arguments.map = true,
                "--journal" => arguments.journal = true,
                "--service" => arguments.service = true,
                "--since" => {
                    arguments.since = Some(number("--since", value("a number")?, "an event's number")?)
                }
                "--heap" => arguments.heap = Some(value("a heap's name")?.clone()),
                "--uid" => {
                    arguments.uid = Some(Uid(number("--uid", value("a number")?, "a uid")?));
                }
                other => {
                    let shown: String = other.chars().take(64).collect();
                    let known = "only --json, --heap NAME, --uid N, --map, --journal, --since N, --service and --help are known";
                    return Err(Invalid::new("args", format!("{shown:?}"), known));
                }
            }
        }
        Ok(arguments)
    }
}

/// Parses a word as a number.
fn number<T: FromStr>(field: &'static str, text: &str, what: &str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::new(field, format!("{text:?}"), format!("it must be {what}")))
}

/// Returns the dump as text or JSON, with the buffers and events that `caller` may see.
///
/// # Errors
/// If `--heap` names no heap.
pub(super) fn render(
    allocator: &Allocator,
    service: &ServiceRow,
    caller: &Caller,
    arguments: &Arguments,
) -> Result<String, DumpError> {
    if arguments.help {
        return Ok(HELP.to_owned());
    }
    if arguments.journal {
        let report = JournalReport::new(allocator, caller, arguments.since.unwrap_or(0));
        return Ok(serde_json::to_string(&report)? + "\n");
    }
    if arguments.service {
        return Ok(serde_json::to_string(service)? + "\n");
    }
    let stats = allocator.stats();
    let wanted = match &arguments.heap {
        Some(name) => {
            let found = stats.iter().find(|view| view.heap.answers_to(name));
            Some(found.ok_or_else(|| UnknownHeap(name.chars().take(64).collect()))?.heap.id())
        }
        None => None,
    };
    let shows = |id| wanted.is_none_or(|wanted| wanted == id);
    let buffers = allocator.buffers(caller);
    let report = Report {
        service,
        release_mechanisms: allocator
            .release_mechanisms()
            .into_iter()
            .map(|(backing, mechanism)| ReleaseRow {
                backing: backing.name(),
                mechanism: mechanism.describe(),
            })
            .collect(),
        pressure: pressure(allocator.pressure()),
        huge_pages: HugePagesRow::of_machine(),
        heaps: stats
            .iter()
            .filter(|view| shows(view.heap.id()))
            .map(|view| HeapRow::new(view, arguments.map))
            .collect(),
        buffers: buffers
            .iter()
            .filter(|view| shows(view.heap.id()) && arguments.uid.is_none_or(|uid| uid == view.record.uid))
            .map(BufferRow::from)
            .collect(),
    };
    if arguments.json { Ok(serde_json::to_string(&report)? + "\n") } else { Ok(text(&report)) }
}

fn pressure(level: PressureLevel) -> &'static str {
    match level {
        PressureLevel::None => "none",
        PressureLevel::Moderate => "moderate",
        PressureLevel::Critical => "critical",
    }
}

/// Returns heaps as ION's debugfs directory would show them, one file a line, then the buffers.
/// Writing to a `String` cannot fail, so the results of `writeln!` are ignored.
fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    let ServiceRow { version, uid, pid, configuration } = report.service;
    let _ = writeln!(out, "aniond {version}, uid {uid}, pid {pid}, configuration {configuration}");
    for row in &report.release_mechanisms {
        let _ = writeln!(out, "release mechanism of {}: {}", row.backing, row.mechanism);
    }
    let _ = writeln!(
        out,
        "memory pressure: {}\n{}\n\nheaps, in the order they are tried:",
        report.pressure,
        report.huge_pages.text()
    );
    for heap in &report.heaps {
        let state =
            heap.unavailable.as_deref().map_or("available".to_owned(), |why| format!("unavailable: {why}"));
        let _ =
            writeln!(out, "ion/{}: id {}, {}, {}, {state}", heap.name, heap.id, heap.r#type, heap.backing);
        if let Some(list) = &heap.passed_over {
            let _ = writeln!(out, "ion/{}: skipped: {list}", heap.name);
        }
        let fixed = [
            ("capacity", heap.capacity),
            ("free_bytes", heap.free_bytes),
            ("largest_free_bytes", heap.largest_free_bytes),
            ("failures_fragmented", heap.failures_fragmented),
        ];
        for (file, value) in fixed.into_iter().filter_map(|(file, value)| Some((file, value?))) {
            let _ = writeln!(out, "ion/{}/{file}: {value}", heap.name);
        }
        let files = [
            ("num_of_buffers", heap.num_of_buffers),
            ("num_of_alloc_bytes", heap.num_of_alloc_bytes),
            ("alloc_bytes_wm", heap.alloc_bytes_wm),
            ("deferred_bytes", heap.deferred_bytes),
            ("pooled_bytes", heap.pooled_bytes),
            ("reserved_bytes", heap.reserved_bytes),
            ("recycled", heap.recycled),
            ("pool_misses", heap.pool_misses),
            ("warmed", heap.warmed),
            ("scrubbed_bytes", heap.scrubbed_bytes),
            ("scrubbed_in_call_bytes", heap.scrubbed_in_call_bytes),
            ("unzeroed", heap.unzeroed),
            ("discarded", heap.discarded),
            ("discarded_full", heap.discarded_full),
            ("discarded_busy", heap.discarded_busy),
            ("discarded_sealed", heap.discarded_sealed),
            ("discarded_untouched", heap.discarded_untouched),
            ("discarded_scarce", heap.discarded_scarce),
            ("discarded_scrub_failed", heap.discarded_scrub_failed),
        ];
        for (file, value) in files {
            let _ = writeln!(out, "ion/{}/{file}: {value}", heap.name);
        }
        let _ = writeln!(out, "ion/{}/allocate_latency: {}", heap.name, heap.allocate_latency);
    }
    let _ = writeln!(
        out,
        "\nbuffers:\n{:>12} {:>12} {:<16} {:<8} {:>7} {:>7} {:>10}  {:<31} id",
        "inode", "size", "heap", "backing", "uid", "pid", "age", "name"
    );
    for buffer in &report.buffers {
        let age = Duration::from_millis(u64::try_from(buffer.age_ms).unwrap_or(u64::MAX));
        let _ = writeln!(
            out,
            "{:>12} {:>12} {:<16} {:<8} {:>7} {:>7} {:>9.1}s  {:<31} {}{}",
            buffer.inode,
            buffer.size,
            buffer.heap,
            buffer.backing,
            buffer.uid,
            buffer.pid,
            age.as_secs_f64(),
            buffer.name,
            buffer.id,
            buffer.image.as_ref().map_or_else(String::new, |image| format!("  {image}"))
        );
    }
    let bytes: u64 = report.buffers.iter().map(|buffer| buffer.size).sum();
    let _ = writeln!(out, "total: {} buffers, {bytes} bytes", report.buffers.len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, Invalid> {
        Arguments::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn known_arguments_are_understood() {
        let arguments = parse(&["--json", "--heap", "camera", "--uid", "1000"]).expect("known");
        let expected = Arguments {
            json: true,
            heap: Some("camera".into()),
            uid: Some(Uid(1000)),
            ..Arguments::default()
        };
        assert_eq!(arguments, expected);
        let arguments = parse(&["--journal", "--since", "18446744073709551615"]).expect("known");
        assert_eq!((arguments.journal, arguments.since), (true, Some(u64::MAX)));
    }

    #[test]
    fn unknown_and_incomplete_arguments_are_named() {
        for words in [
            &["--nope"][..],
            &["--heap"],
            &["--uid", "x"],
            &["--uid", "-1"],
            &["json"],
            &["--since", "-1"],
            &["--since"],
        ] {
            let error = parse(words).expect_err("not known");
            assert!(error.to_string().contains(words[words.len() - 1]), "{error}");
        }
    }
}
