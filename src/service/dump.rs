// SPDX-License-Identifier: Apache-2.0
//! The dump: what dumpsys, `dumpTo` and `anionctl dump` show.

use crate::allocator::{Allocator, BufferView, Caller, HeapView, LatencyCounts, PressureLevel, UnknownHeap};
use crate::heap::Discard;
use crate::sys::memory::{self, HugePages};
use crate::units::{Invalid, Uid};
use serde::Serialize;
use std::fmt::{self, Write};
use std::time::Duration;

const HELP: &str = "\
arguments:
  --json       one JSON document
  --heap NAME  only this heap and its buffers
  --uid N      only buffers of this uid
  --help       this text
";

/// What to show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    json: bool,
    help: bool,
    heap: Option<String>,
    uid: Option<Uid>,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error(transparent)]
    UnknownHeap(#[from] UnknownHeap),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Arguments {
    /// # Errors
    /// On a word that [`HELP`] does not list.
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
                "--heap" => arguments.heap = Some(value("a heap's name")?.clone()),
                "--uid" => {
                    let text = value("a number")?;
                    let uid = text
                        .parse()
                        .map_err(|_| Invalid::new("--uid", format!("{text:?}"), "it must be a uid"))?;
                    arguments.uid = Some(Uid(uid));
                }
                other => {
                    let shown: String = other.chars().take(64).collect();
                    let known = "only --json, --heap NAME, --uid N and --help are known";
                    return Err(Invalid::new("args", format!("{shown:?}"), known));
                }
            }
        }
        Ok(arguments)
    }
}

/// What is shown, for tools.
#[derive(Serialize)]
struct Report {
    release_mechanism: &'static str,
    pressure: &'static str,
    huge_pages: HugePagesRow,
    heaps: Vec<HeapRow>,
    buffers: Vec<BufferRow>,
}

/// Huge pages of the machine, in its default size, and when shared memory gets large pages by itself.
#[derive(Serialize)]
struct HugePagesRow {
    bytes: u64,
    total: u64,
    free: u64,
    overcommit: u64,
    shared_memory: Option<String>,
}

#[derive(Serialize)]
struct HeapRow {
    id: u8,
    name: String,
    r#type: &'static str,
    backing: &'static str,
    unavailable: Option<String>,
    capacity: Option<u64>,
    free_bytes: Option<u64>,
    largest_free_bytes: Option<u64>,
    failures_fragmented: Option<u64>,
    num_of_buffers: u64,
    num_of_alloc_bytes: u64,
    alloc_bytes_wm: u64,
    deferred_bytes: u64,
    pooled_bytes: u64,
    reserved_bytes: u64,
    recycled: u64,
    pool_misses: u64,
    warmed: u64,
    scrubbed_bytes: u64,
    discarded: u64,
    discarded_full: u64,
    discarded_busy: u64,
    discarded_sealed: u64,
    discarded_untouched: u64,
    discarded_scarce: u64,
    discarded_scrub_failed: u64,
    allocate_latency: LatencyRow,
}

/// Microseconds that calls stayed below; null without calls, or where they are in the class that has no end.
#[derive(Serialize)]
struct LatencyRow {
    calls: u64,
    p50_us: Option<u64>,
    p90_us: Option<u64>,
    p99_us: Option<u64>,
    max_us: Option<u64>,
}

#[derive(Serialize)]
struct BufferRow {
    inode: u64,
    id: u64,
    size: u64,
    heap: String,
    backing: &'static str,
    uid: u32,
    pid: i32,
    name: String,
    age_ms: u128,
}

impl HugePagesRow {
    /// All zero where the kernel has none or does not tell.
    fn of_machine() -> Self {
        let huge = memory::huge_pages().ok().flatten();
        let huge = huge.unwrap_or(HugePages { bytes: 0, total: 0, free: 0, overcommit: 0 });
        let shared_memory = memory::shared_huge_policy().ok();
        Self {
            bytes: huge.bytes,
            total: huge.total,
            free: huge.free,
            overcommit: huge.overcommit,
            shared_memory,
        }
    }

    fn text(&self) -> String {
        let pages = match self {
            Self { bytes: 0, .. } => "the kernel has none".to_owned(),
            Self { total: 0, overcommit: 0, bytes, .. } => format!("off, none of {bytes} bytes is set aside"),
            Self { bytes, total, free, overcommit, .. } => {
                format!("{free} of {total} free, {overcommit} more on demand, {bytes} bytes each")
            }
        };
        let shared = match self.shared_memory.as_deref() {
            Some(off @ ("never" | "deny")) => format!("off ({off})"),
            Some(policy) => policy.to_owned(),
            None => "the kernel has none".to_owned(),
        };
        format!("huge pages: {pages}\ntransparent huge pages of shared memory: {shared}")
    }
}

impl From<&HeapView<'_>> for HeapRow {
    fn from(view: &HeapView<'_>) -> Self {
        let fragmentation = view.heap.fragmentation();
        Self {
            id: view.heap.id().get(),
            name: view.heap.name().to_string(),
            r#type: view.heap.spec().kind.name(),
            backing: view.heap.backing().name(),
            unavailable: view.heap.unavailable().map(str::to_owned),
            capacity: view.heap.capacity(),
            free_bytes: fragmentation.map(|figures| figures.free_bytes),
            largest_free_bytes: fragmentation.map(|figures| figures.largest_free_bytes),
            failures_fragmented: fragmentation.map(|figures| figures.failures),
            num_of_buffers: view.counters.buffers,
            num_of_alloc_bytes: view.counters.bytes,
            alloc_bytes_wm: view.counters.bytes_watermark,
            deferred_bytes: view.counters.deferred_bytes,
            pooled_bytes: view.stock.pooled_bytes,
            reserved_bytes: view.counters.reserved_bytes,
            recycled: view.stock.hits,
            pool_misses: view.stock.misses,
            warmed: view.stock.warmed,
            scrubbed_bytes: view.stock.scrubbed_bytes,
            discarded: view.stock.discarded.total(),
            discarded_full: view.stock.discarded.of(Discard::Full),
            discarded_busy: view.stock.discarded.of(Discard::Busy),
            discarded_sealed: view.stock.discarded.of(Discard::Sealed),
            discarded_untouched: view.stock.discarded.of(Discard::Untouched),
            discarded_scarce: view.stock.discarded.of(Discard::Scarce),
            discarded_scrub_failed: view.stock.discarded.of(Discard::ScrubFailed),
            allocate_latency: LatencyRow::from(&view.latency),
        }
    }
}

impl From<&LatencyCounts> for LatencyRow {
    fn from(counts: &LatencyCounts) -> Self {
        let below = |percent| counts.percentile(percent).filter(|micros| *micros != u64::MAX);
        Self {
            calls: counts.total(),
            p50_us: below(50),
            p90_us: below(90),
            p99_us: below(99),
            max_us: below(100),
        }
    }
}

/// `p50 <16 us, p90 <32 us, p99 <64 us, max <64 us of 12 calls`.
impl fmt::Display for LatencyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bound) in
            [("p50", self.p50_us), ("p90", self.p90_us), ("p99", self.p99_us), ("max", self.max_us)]
        {
            match bound {
                Some(micros) => write!(f, "{name} <{micros} us, ")?,
                None if self.calls == 0 => write!(f, "{name} -, ")?,
                None => write!(f, "{name} beyond, ")?,
            }
        }
        write!(f, "{} calls", self.calls)
    }
}

impl From<&BufferView<'_>> for BufferRow {
    fn from(view: &BufferView<'_>) -> Self {
        let record = &view.record;
        Self {
            inode: record.inode,
            id: record.id.0,
            size: record.bytes.get(),
            heap: view.heap.name().to_string(),
            backing: view.backing.name(),
            uid: record.uid.0,
            pid: record.pid,
            name: record.label.to_string(),
            age_ms: view.age.as_millis(),
        }
    }
}

/// The dump as text or JSON. Shows `caller` the buffers it may see.
///
/// # Errors
/// If `--heap` names no heap.
pub(super) fn render(
    allocator: &Allocator,
    caller: &Caller,
    arguments: &Arguments,
) -> Result<String, DumpError> {
    if arguments.help {
        return Ok(HELP.to_owned());
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
        release_mechanism: allocator.release_mechanism(),
        pressure: pressure(allocator.pressure()),
        huge_pages: HugePagesRow::of_machine(),
        heaps: stats.iter().filter(|view| shows(view.heap.id())).map(HeapRow::from).collect(),
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

/// Heaps as ION's debugfs directory would show them, one file a line, then the buffers. Writing to a `String` cannot
/// fail, so results of `writeln!` are dropped.
fn text(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "release mechanism: {}\nmemory pressure: {}\n{}\n\nheaps, in the order they are tried:",
        report.release_mechanism,
        report.pressure,
        report.huge_pages.text()
    );
    for heap in &report.heaps {
        let state =
            heap.unavailable.as_deref().map_or("available".to_owned(), |why| format!("unavailable: {why}"));
        let _ =
            writeln!(out, "ion/{}: id {}, {}, {}, {state}", heap.name, heap.id, heap.r#type, heap.backing);
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
            "{:>12} {:>12} {:<16} {:<8} {:>7} {:>7} {:>9.1}s  {:<31} {}",
            buffer.inode,
            buffer.size,
            buffer.heap,
            buffer.backing,
            buffer.uid,
            buffer.pid,
            age.as_secs_f64(),
            buffer.name,
            buffer.id
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
        let expected =
            Arguments { json: true, help: false, heap: Some("camera".into()), uid: Some(Uid(1000)) };
        assert_eq!(arguments, expected);
    }

    #[test]
    fn huge_pages_that_are_off_are_reported_so() {
        let row = |total, overcommit, policy: Option<&str>| HugePagesRow {
            bytes: 2 << 20,
            total,
            free: total,
            overcommit,
            shared_memory: policy.map(str::to_owned),
        };
        let off = "huge pages: off, none of 2097152 bytes is set aside\n\
                   transparent huge pages of shared memory: off (never)";
        assert_eq!(row(0, 0, Some("never")).text(), off);
        let on = row(4, 1, Some("advise")).text();
        assert!(
            on.contains("4 of 4 free, 1 more on demand") && on.ends_with("shared memory: advise"),
            "{on}"
        );
        let unknown = HugePagesRow { bytes: 0, ..row(0, 0, None) }.text();
        assert_eq!(unknown.matches("the kernel has none").count(), 2);
    }

    #[test]
    fn unknown_and_incomplete_arguments_are_named() {
        for words in [&["--nope"][..], &["--heap"], &["--uid", "x"], &["--uid", "-1"], &["json"]] {
            let error = parse(words).expect_err("not known");
            assert!(error.to_string().contains(words[words.len() - 1]), "{error}");
        }
    }
}
