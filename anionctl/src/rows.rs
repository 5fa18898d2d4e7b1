// SPDX-License-Identifier: Apache-2.0
//! The interface's parcelables as rows of tables and JSON documents.
//!
//! The keys are stable for scripts: keys may be added, but not renamed. Sizes are bytes; a limit of
//! 0 means unlimited.

use crate::latency::Latency;
use crate::{users, words};
use anion_layout::Format;
use serde::Serialize;
use std::os::fd::RawFd;
use vendor_anion_allocator::aidl::vendor::anion::allocator::BufferInfo::BufferInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ClientUsage::ClientUsage;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Explanation::Explanation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::GraphicInfo::GraphicInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapInfo::HeapInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapStats::HeapStats;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapVerdict::HeapVerdict;

/// A configured heap.
#[derive(Debug, Serialize)]
pub(crate) struct HeapRow {
    pub(crate) id: i32,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) heap_type: String,
    pub(crate) backing: String,
    pub(crate) available: bool,
    pub(crate) unavailable_reason: String,
    pub(crate) passed_over: String,
    pub(crate) release_mechanism: String,
    pub(crate) capacity: i64,
    pub(crate) granule: i64,
    pub(crate) max_alignment: i64,
    pub(crate) flags: Vec<String>,
    pub(crate) priority: i32,
    pub(crate) stride_align: i32,
}

impl From<HeapInfo> for HeapRow {
    fn from(heap: HeapInfo) -> Self {
        Self {
            id: heap.id,
            name: heap.name,
            aliases: heap.aliases,
            heap_type: words::heap_type(heap.r#type),
            backing: words::backing(heap.backing),
            available: heap.available,
            unavailable_reason: heap.unavailableReason,
            passed_over: heap.passedOver,
            release_mechanism: words::release_mechanism(heap.releaseMechanism),
            capacity: heap.capacity,
            granule: heap.granule,
            max_alignment: heap.maxAlignment,
            flags: words::heap_flags(heap.flags),
            priority: heap.priority,
            stride_align: heap.strideAlign,
        }
    }
}

/// One heap's counters.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StatsRow {
    pub(crate) heap_id: i32,
    pub(crate) heap: String,
    pub(crate) num_of_buffers: i64,
    pub(crate) num_of_alloc_bytes: i64,
    pub(crate) alloc_bytes_wm: i64,
    pub(crate) live_bytes: i64,
    pub(crate) deferred_bytes: i64,
    pub(crate) pooled_bytes: i64,
    pub(crate) reserved_bytes: i64,
    pub(crate) capacity: i64,
    pub(crate) largest_free_bytes: i64,
    pub(crate) allocations: i64,
    pub(crate) frees: i64,
    pub(crate) recycled: i64,
    pub(crate) pool_misses: i64,
    pub(crate) warmed: i64,
    pub(crate) scrubbed_bytes: i64,
    pub(crate) scrubbed_in_call_bytes: i64,
    pub(crate) unzeroed: i64,
    pub(crate) discarded: i64,
    pub(crate) discarded_by_cause: DiscardCounts,
    pub(crate) failures: FailureCounts,
    /// Calls by class of duration.
    pub(crate) allocate_latency: Latency,
    pub(crate) allocate_p50_us: Option<u64>,
    pub(crate) allocate_p99_us: Option<u64>,
}

/// Discarded buffers by cause.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiscardCounts {
    pub(crate) full: i64,
    pub(crate) busy: i64,
    pub(crate) sealed: i64,
    pub(crate) untouched: i64,
    pub(crate) scarce: i64,
    pub(crate) scrub_failed: i64,
}

/// Refused requests by cause.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FailureCounts {
    pub(crate) no_memory: i64,
    /// Also counted in `no_memory`.
    pub(crate) fragmented: i64,
    pub(crate) quota: i64,
    pub(crate) not_permitted: i64,
    pub(crate) unsupported: i64,
    pub(crate) backend: i64,
}

impl FailureCounts {
    /// Returns the sum of all causes.
    pub(crate) fn total(&self) -> i64 {
        [self.no_memory, self.quota, self.not_permitted, self.unsupported, self.backend]
            .into_iter()
            .fold(0, i64::saturating_add)
    }
}

impl From<HeapStats> for StatsRow {
    fn from(stats: HeapStats) -> Self {
        let latency = Latency(stats.allocateLatency);
        Self {
            heap_id: stats.heapId,
            heap: stats.heapName,
            num_of_buffers: stats.numOfBuffers,
            num_of_alloc_bytes: stats.numOfAllocBytes,
            alloc_bytes_wm: stats.allocBytesWm,
            live_bytes: stats.liveBytes,
            deferred_bytes: stats.deferredBytes,
            pooled_bytes: stats.pooledBytes,
            reserved_bytes: stats.reservedBytes,
            capacity: stats.capacity,
            largest_free_bytes: stats.largestFreeBytes,
            allocations: stats.allocations,
            frees: stats.frees,
            recycled: stats.recycled,
            pool_misses: stats.poolMisses,
            warmed: stats.warmed,
            scrubbed_bytes: stats.scrubbedBytes,
            scrubbed_in_call_bytes: stats.scrubbedInCallBytes,
            unzeroed: stats.unzeroed,
            discarded: stats.discarded,
            discarded_by_cause: DiscardCounts {
                full: stats.discardedFull,
                busy: stats.discardedBusy,
                sealed: stats.discardedSealed,
                untouched: stats.discardedUntouched,
                scarce: stats.discardedScarce,
                scrub_failed: stats.discardedScrubFailed,
            },
            failures: FailureCounts {
                no_memory: stats.failuresNoMemory,
                fragmented: stats.failuresFragmented,
                quota: stats.failuresQuota,
                not_permitted: stats.failuresNotPermitted,
                unsupported: stats.failuresUnsupported,
                backend: stats.failuresBackend,
            },
            allocate_p50_us: latency.below_us(50),
            allocate_p99_us: latency.below_us(99),
            allocate_latency: latency,
        }
    }
}

/// The usage of one uid.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UsageRow {
    pub(crate) uid: u32,
    pub(crate) user: String,
    pub(crate) policy: String,
    pub(crate) bytes: i64,
    pub(crate) buffers: i64,
    pub(crate) reserved_bytes: i64,
    pub(crate) peak_bytes: i64,
    pub(crate) quota_bytes: i64,
    pub(crate) quota_buffers: i64,
}

impl From<ClientUsage> for UsageRow {
    fn from(usage: ClientUsage) -> Self {
        Self {
            // The interface has no unsigned integers: the highest uids arrive as negative numbers.
            uid: usage.uid.cast_unsigned(),
            user: users::name(usage.uid.cast_unsigned()),
            policy: usage.policy,
            bytes: usage.bytes,
            buffers: usage.buffers,
            reserved_bytes: usage.reservedBytes,
            peak_bytes: usage.peakBytes,
            quota_bytes: usage.quotaBytes,
            quota_buffers: usage.quotaBuffers,
        }
    }
}

/// The service's information on the buffer of a descriptor.
#[derive(Debug, Serialize)]
pub(crate) struct BufferRow {
    pub(crate) fd: RawFd,
    pub(crate) id: i64,
    pub(crate) size: i64,
    pub(crate) heap_id: i32,
    pub(crate) heap: String,
    pub(crate) backing: String,
    pub(crate) owner_uid: u32,
    pub(crate) owner_pid: i32,
    pub(crate) name: String,
    pub(crate) inode: i64,
    pub(crate) age_ms: i64,
    /// Only for the buffer of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<GraphicRow>,
}

/// The image that a buffer was allocated for.
#[derive(Debug, Serialize)]
pub(crate) struct GraphicRow {
    pub(crate) format: String,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) usage: u64,
    pub(crate) metadata_bytes: i64,
}

impl From<GraphicInfo> for GraphicRow {
    fn from(graphic: GraphicInfo) -> Self {
        let GraphicInfo { width, height, format, usage, metadataSize: metadata_bytes } = graphic;
        let name = Format::from_value(format).map_or(format!("{format:#x}"), |format| format.to_string());
        Self { format: name, width, height, usage: usage.cast_unsigned(), metadata_bytes }
    }
}

impl BufferRow {
    /// Returns the row for the buffer of this process's descriptor `fd`.
    pub(crate) fn new(fd: RawFd, info: BufferInfo) -> Self {
        Self {
            fd,
            id: info.id,
            size: info.size,
            heap_id: info.heapId,
            heap: info.heapName,
            backing: words::backing(info.backing),
            owner_uid: info.ownerUid.cast_unsigned(),
            owner_pid: info.ownerPid,
            name: info.name,
            inode: info.inode,
            age_ms: info.ageMs,
            image: info.graphic.map(GraphicRow::from),
        }
    }
}

/// The result of a dry run.
#[derive(Debug, Serialize)]
pub(crate) struct ExplanationRow {
    pub(crate) possible: bool,
    pub(crate) chosen_heap: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) summary: String,
    pub(crate) verdicts: Vec<VerdictRow>,
}

impl From<Explanation> for ExplanationRow {
    fn from(explanation: Explanation) -> Self {
        Self {
            possible: explanation.possible,
            chosen_heap: Some(explanation.chosenHeap).filter(|name| !name.is_empty()),
            error: (explanation.error != 0).then(|| words::error_code(explanation.error)),
            summary: explanation.summary,
            verdicts: explanation.verdicts.into_iter().map(VerdictRow::from).collect(),
        }
    }
}

/// One heap's answer in a dry run.
#[derive(Debug, Serialize)]
pub(crate) struct VerdictRow {
    /// -1 if no heap matched the name.
    pub(crate) heap_id: i32,
    pub(crate) heap: String,
    pub(crate) verdict: String,
    pub(crate) reason: String,
    pub(crate) fits_bytes: i64,
}

impl From<HeapVerdict> for VerdictRow {
    fn from(verdict: HeapVerdict) -> Self {
        Self {
            heap_id: verdict.heapId,
            heap: verdict.heapName,
            verdict: words::verdict(verdict.verdict),
            reason: verdict.reason,
            fits_bytes: verdict.fitsBytes,
        }
    }
}
