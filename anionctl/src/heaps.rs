// SPDX-License-Identifier: Apache-2.0
//! `anionctl list` and `stats`: show the heaps of the service, and their counters.

use crate::failure::Failure;
use crate::output::{self, Output, Report};
use crate::rows::{DiscardCounts, FailureCounts, HeapRow, StatsRow};
use crate::table::{Side, Table, wrap};
use anion_ipc::Strong;
use serde::Serialize;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Shows every heap.
pub(crate) fn list(service: &Strong<dyn IHeapAllocator>, output: &Output) -> Result<(), Failure> {
    output.show(&Heaps { heaps: service.listHeaps()?.into_iter().map(HeapRow::from).collect() })
}

/// Shows every heap's counters.
pub(crate) fn stats(service: &Strong<dyn IHeapAllocator>, output: &Output) -> Result<(), Failure> {
    output.show(&Stats { stats: fetch_stats(service)? })
}

/// Returns every heap's counters.
pub(crate) fn fetch_stats(service: &Strong<dyn IHeapAllocator>) -> Result<Vec<StatsRow>, Failure> {
    Ok(service.getStats()?.into_iter().map(StatsRow::from).collect())
}

#[derive(Debug, Serialize)]
struct Heaps {
    heaps: Vec<HeapRow>,
}

impl Report for Heaps {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("ID", Side::Right, 2),
            ("NAME", Side::Left, 0),
            ("ALIASES", Side::Left, 7),
            ("TYPE", Side::Left, 3),
            ("BACKING", Side::Left, 1),
            ("CAPACITY", Side::Right, 2),
            ("GRANULE", Side::Right, 5),
            ("ALIGN", Side::Right, 6),
            ("FLAGS", Side::Left, 4),
            ("RELEASE", Side::Left, 8),
            ("STATE", Side::Left, 0),
        ]);
        for heap in &self.heaps {
            let state = if heap.available {
                "available".to_owned()
            } else {
                format!("unavailable: {}", heap.unavailable_reason)
            };
            table.add_row([
                heap.id.to_string(),
                heap.name.clone(),
                list_of(&heap.aliases),
                heap.heap_type.clone(),
                heap.backing.clone(),
                output::limit(heap.capacity, output::size),
                output::size(heap.granule),
                output::size(heap.max_alignment),
                list_of(&heap.flags),
                heap.release_mechanism.clone(),
                state,
            ]);
        }
        let with_notes = self.heaps.iter().filter(|heap| !heap.passed_over.is_empty());
        let limit = width.unwrap_or(usize::MAX);
        let notes = with_notes.map(|heap| {
            let note = format!("{} skips {}", heap.name, heap.passed_over);
            format!("\n{}", wrap(&note, limit, 2))
        });
        table.text(width) + &notes.collect::<String>()
    }
}

#[derive(Debug, Serialize)]
struct Stats {
    stats: Vec<StatsRow>,
}

impl Report for Stats {
    fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("ID", Side::Right, 6),
            ("HEAP", Side::Left, 0),
            ("BUFFERS", Side::Right, 1),
            ("LIVE", Side::Right, 0),
            ("DEFERRED", Side::Right, 3),
            ("POOLED", Side::Right, 2),
            ("RESERVED", Side::Right, 5),
            ("PEAK", Side::Right, 3),
            ("CAPACITY", Side::Right, 4),
            ("LARGEST FREE", Side::Right, 8),
            ("ALLOCS", Side::Right, 2),
            ("FREES", Side::Right, 7),
            ("RECYCLED", Side::Right, 4),
            ("MISSED", Side::Right, 4),
            ("WARMED", Side::Right, 8),
            ("SCRUBBED", Side::Right, 8),
            ("DISCARDED", Side::Text, 9),
            ("P50", Side::Right, 7),
            ("P99", Side::Right, 6),
            ("FAILED", Side::Left, 5),
        ]);
        for heap in &self.stats {
            table.add_row([
                heap.heap_id.to_string(),
                heap.heap.clone(),
                heap.num_of_buffers.to_string(),
                output::size(heap.live_bytes),
                output::size(heap.deferred_bytes),
                output::size(heap.pooled_bytes),
                output::size(heap.reserved_bytes),
                output::size(heap.alloc_bytes_wm),
                output::limit(heap.capacity, output::size),
                if heap.largest_free_bytes > 0 {
                    output::size(heap.largest_free_bytes)
                } else {
                    "-".to_owned()
                },
                heap.allocations.to_string(),
                heap.frees.to_string(),
                heap.recycled.to_string(),
                heap.pool_misses.to_string(),
                heap.warmed.to_string(),
                output::size(heap.scrubbed_bytes),
                discards(heap.discarded, &heap.discarded_by_cause),
                heap.allocate_latency.bound(50),
                heap.allocate_latency.bound(99),
                failures(&heap.failures),
            ]);
        }
        table.text(width)
    }
}

/// Returns the words separated by commas; a dash if there are none.
fn list_of(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// Returns the refused requests with the causes that occurred: `3 (quota 2, no memory 1)`.
pub(crate) fn failures(failures: &FailureCounts) -> String {
    let causes = [
        ("quota", failures.quota),
        ("fragmented", failures.fragmented),
        ("no memory", failures.no_memory.saturating_sub(failures.fragmented)),
        ("not permitted", failures.not_permitted),
        ("unsupported", failures.unsupported),
        ("backend", failures.backend),
    ];
    with_causes(failures.total(), &causes)
}

/// Returns how many buffers were discarded, with the causes that occurred: `3 (untouched 2, busy
/// 1)`.
pub(crate) fn discards(total: i64, causes: &DiscardCounts) -> String {
    let causes = [
        ("full", causes.full),
        ("busy", causes.busy),
        ("sealed", causes.sealed),
        ("untouched", causes.untouched),
        ("memory scarce", causes.scarce),
        ("scrub failed", causes.scrub_failed),
    ];
    with_causes(total, &causes)
}

fn with_causes(total: i64, causes: &[(&str, i64)]) -> String {
    let occurred: Vec<String> = causes
        .iter()
        .filter(|(_, count)| *count != 0)
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    if occurred.is_empty() { total.to_string() } else { format!("{total} ({})", occurred.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_causes_that_occurred_are_shown() {
        let mut counts = FailureCounts {
            no_memory: 0,
            fragmented: 0,
            quota: 0,
            not_permitted: 0,
            unsupported: 0,
            backend: 0,
        };
        assert_eq!(failures(&counts), "0");
        counts.quota = 2;
        counts.backend = 1;
        assert_eq!(failures(&counts), "3 (quota 2, backend 1)");
        counts.no_memory = 5;
        counts.fragmented = 4;
        assert_eq!(failures(&counts), "8 (quota 2, fragmented 4, no memory 1, backend 1)");
        let counts = DiscardCounts { full: 0, busy: 1, sealed: 0, untouched: 4, scarce: 0, scrub_failed: 0 };
        assert_eq!(discards(5, &counts), "5 (busy 1, untouched 4)");
    }
}
