// SPDX-License-Identifier: Apache-2.0
//! Rows of a dump, for tools. Scripts depend on the keys: keys may be added, but not renamed.

use crate::allocator::{BufferView, Graphic, HeapView, LatencyCounts};
use crate::heap::{Discard, Heap, SetAside};
use crate::sys::memory::{self, HugePages};
use crate::units::BackedBytes;
use anion_layout::Format;
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// Most ranges of one kind that a dump lists.
const MOST_RANGES: usize = 4096;

/// The whole dump, for tools.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) service: &'a ServiceRow,
    pub(super) release_mechanisms: Vec<ReleaseRow>,
    pub(super) pressure: &'static str,
    pub(super) huge_pages: HugePagesRow,
    pub(super) heaps: Vec<HeapRow>,
    pub(super) buffers: Vec<BufferRow>,
}

/// Process and configuration of the service.
#[derive(Serialize)]
pub(in crate::service) struct ServiceRow {
    pub(super) version: &'static str,
    pub(super) uid: u32,
    pub(super) pid: u32,
    /// The files of the configuration, or `built in`.
    pub(super) configuration: String,
}

impl ServiceRow {
    /// Returns the row of this process. Queries the system, so call it before the seccomp filter.
    pub(in crate::service) fn new(configuration: String) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uid: nix::unistd::geteuid().as_raw(),
            pid: std::process::id(),
            configuration,
        }
    }
}

/// Release mechanism of one kind of buffer.
#[derive(Serialize)]
pub(super) struct ReleaseRow {
    pub(super) backing: &'static str,
    pub(super) mechanism: &'static str,
}

/// Huge pages of the machine in its default size, and the policy of large pages for shared memory.
#[derive(Serialize)]
pub(super) struct HugePagesRow {
    pub(super) bytes: u64,
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) overcommit: u64,
    pub(super) shared_memory: Option<String>,
}

#[derive(Serialize)]
pub(super) struct HeapRow {
    pub(super) id: u8,
    pub(super) name: String,
    pub(super) r#type: &'static str,
    pub(super) backing: &'static str,
    pub(super) unavailable: Option<String>,
    pub(super) passed_over: Option<String>,
    pub(super) release_mechanism: &'static str,
    pub(super) capacity: Option<u64>,
    pub(super) free_bytes: Option<u64>,
    pub(super) largest_free_bytes: Option<u64>,
    pub(super) failures_fragmented: Option<u64>,
    pub(super) num_of_buffers: u64,
    pub(super) num_of_alloc_bytes: u64,
    pub(super) alloc_bytes_wm: u64,
    pub(super) deferred_bytes: u64,
    pub(super) pooled_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) recycled: u64,
    pub(super) pool_misses: u64,
    pub(super) warmed: u64,
    pub(super) scrubbed_bytes: u64,
    pub(super) scrubbed_in_call_bytes: u64,
    pub(super) unzeroed: u64,
    pub(super) discarded: u64,
    pub(super) discarded_full: u64,
    pub(super) discarded_busy: u64,
    pub(super) discarded_sealed: u64,
    pub(super) discarded_untouched: u64,
    pub(super) discarded_scarce: u64,
    pub(super) discarded_scrub_failed: u64,
    pub(super) allocate_latency: LatencyRow,
    /// Present if it was requested and the heap has memory set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<MapRow>,
}

/// Free ranges of the memory that is set aside for a heap: offset and length of each in bytes, by
/// offset. Ranges in neither list are held by clients, or are being moved.
#[derive(Serialize)]
struct MapRow {
    free: Vec<(u64, u64)>,
    pooled: Vec<(u64, u64)>,
    /// Whether the lists omit ranges.
    truncated: bool,
}

impl MapRow {
    fn of(heap: &Heap) -> Option<Self> {
        let SetAside { free, pooled } = heap.set_aside_ranges()?;
        let truncated = free.len().max(pooled.len()) > MOST_RANGES;
        let list = |ranges: Vec<Range<u64>>| {
            ranges.into_iter().take(MOST_RANGES).map(|range| (range.start, range.end - range.start)).collect()
        };
        Some(Self { free: list(free), pooled: list(pooled), truncated })
    }
}

/// Upper bounds of the latency of calls, in microseconds; null if there were no calls, or if the
/// latency is in the class without an upper bound.
#[derive(Serialize)]
pub(super) struct LatencyRow {
    pub(super) calls: u64,
    p50_us: Option<u64>,
    p90_us: Option<u64>,
    p99_us: Option<u64>,
    pub(super) max_us: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct BufferRow {
    pub(super) inode: u64,
    pub(super) id: u64,
    pub(super) size: u64,
    pub(super) heap: String,
    pub(super) backing: &'static str,
    pub(super) uid: u32,
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) age_ms: u128,
    /// `None` for buffers that were not made by a graphics allocator.
    pub(super) image: Option<ImageRow>,
}

/// Image of a buffer.
#[derive(Serialize)]
pub(super) struct ImageRow {
    format: String,
    width: u32,
    height: u32,
    usage: u64,
    metadata_bytes: u64,
}

impl HugePagesRow {
    /// Returns zeros if the kernel has no huge pages or does not report them.
    pub(super) fn of_machine() -> Self {
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

    pub(super) fn text(&self) -> String {
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

impl HeapRow {
    /// Returns the row of a heap; `with_map`, also the free ranges of the memory set aside for it.
    pub(super) fn new(view: &HeapView<'_>, with_map: bool) -> Self {
        let fragmentation = view.heap.fragmentation();
        Self {
            id: view.heap.id().get(),
            name: view.heap.name().to_string(),
            r#type: view.heap.spec().kind.name(),
            backing: view.heap.backing().name(),
            unavailable: view.heap.unavailable().map(str::to_owned),
            passed_over: Some(view.heap.passed_over()).filter(|list| !list.is_empty()),
            release_mechanism: view.heap.release_mechanism().describe(),
            capacity: view.heap.capacity(),
            free_bytes: fragmentation.map(|figures| figures.free_bytes),
            largest_free_bytes: fragmentation.map(|figures| figures.largest_free_bytes),
            failures_fragmented: fragmentation.map(|figures| figures.failures),
            num_of_buffers: view.counters.buffers,
            num_of_alloc_bytes: view.counters.bytes,
            alloc_bytes_wm: view.counters.bytes_watermark,
            deferred_bytes: view.counters.deferred_bytes,
            pooled_bytes: view.pool.pooled_bytes,
            reserved_bytes: view.counters.reserved_bytes,
            recycled: view.pool.hits,
            pool_misses: view.pool.misses,
            warmed: view.pool.preallocated,
            scrubbed_bytes: view.pool.scrubbed_bytes,
            scrubbed_in_call_bytes: view.pool.scrubbed_in_call_bytes,
            unzeroed: view.pool.unzeroed,
            discarded: view.pool.discarded.total(),
            discarded_full: view.pool.discarded.of(Discard::Full),
            discarded_busy: view.pool.discarded.of(Discard::Busy),
            discarded_sealed: view.pool.discarded.of(Discard::Sealed),
            discarded_untouched: view.pool.discarded.of(Discard::Untouched),
            discarded_scarce: view.pool.discarded.of(Discard::Scarce),
            discarded_scrub_failed: view.pool.discarded.of(Discard::ScrubFailed),
            allocate_latency: LatencyRow::from(&view.latency),
            map: if with_map { MapRow::of(view.heap) } else { None },
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
            image: record.graphic.map(ImageRow::from),
        }
    }
}

impl From<(Graphic, BackedBytes)> for ImageRow {
    fn from((graphic, metadata): (Graphic, BackedBytes)) -> Self {
        let Graphic { width, height, format, usage } = graphic;
        let format = Format::from_value(format).map_or(format!("{format:#x}"), |format| format.to_string());
        Self { format, width, height, usage, metadata_bytes: metadata.get() }
    }
}

/// `RGBA_8888 64x64, usage 0x33, 4096 bytes of metadata`.
impl fmt::Display for ImageRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, width, height, usage, metadata_bytes } = self;
        write!(f, "{format} {width}x{height}, usage {usage:#x}, {metadata_bytes} bytes of metadata")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
