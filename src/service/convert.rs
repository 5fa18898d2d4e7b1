// SPDX-License-Identifier: Apache-2.0
//! Converts AIDL values to checked ones, and answers to AIDL values.

use crate::allocator::{self, BufferView, Grant, Graphic, HeapView, Outcome, Request, Selection};
use crate::heap::{Discard, Heap, Needs, Rejection};
use crate::ledger::{FailureCause, Usage};
use crate::source;
use crate::units::{self, BackedBytes, BufferId, Count, HeapMask, Invalid, Label, MAX_HEAPS, RequestedBytes};
use anion_ipc::ParcelFileDescriptor;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    Access::Access, AllocationFlags::AllocationFlags, AllocationRequest::AllocationRequest, Backing::Backing,
    Buffer::Buffer, BufferInfo::BufferInfo, ClientUsage::ClientUsage, Explanation::Explanation,
    GraphicInfo::GraphicInfo, HeapFlags::HeapFlags, HeapInfo::HeapInfo, HeapStats::HeapStats,
    HeapType::HeapType, HeapVerdict::HeapVerdict, PressureLevel::PressureLevel,
    ReleaseMechanism::ReleaseMechanism, ReservationRequest::ReservationRequest, Verdict::Verdict,
};

/// Returns a count of bytes or buffers as AIDL's signed number. It saturates; no real amount is so
/// large.
pub(super) fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Converts an unsigned number to AIDL's signed one with the same bits.
fn int(value: u32) -> i32 {
    value.cast_signed()
}

/// Checks all fields of a request that do not depend on the heaps.
pub(super) fn request(raw: &AllocationRequest) -> Result<Request, Invalid> {
    let bytes = RequestedBytes(raw.size);
    // As in ION, a size is malformed if it cannot be rounded up to any granularity; a size that is
    // only too large is not.
    bytes.round_up(1)?;
    let known = AllocationFlags::CACHED.0 | AllocationFlags::UNZEROED.0;
    if raw.flags & !known != 0 {
        return Err(Invalid::new(
            "flags",
            format!("{:#x}", raw.flags),
            format!("only the bits {known:#x} are defined"),
        ));
    }
    Ok(Request {
        needs: Needs {
            bytes,
            alignment: alignment(raw.alignment)?,
            cached: raw.flags & AllocationFlags::CACHED.0 != 0,
            dma_buf: raw.requireDmaBuf,
            access: access(raw.access)?,
        },
        count: Count::new(raw.count)?,
        selection: selection(raw)?,
        label: Label::new(&raw.name)?,
        unzeroed: raw.flags & AllocationFlags::UNZEROED.0 != 0,
        metadata: None,
    })
}

/// Checks all fields of a reservation that do not depend on the heaps.
pub(super) fn reservation_request(raw: &ReservationRequest) -> Result<Request, Invalid> {
    let bytes = RequestedBytes(raw.size);
    bytes.round_up(1)?;
    Ok(Request {
        needs: Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: units::Access::ReadWrite },
        count: Count::new(raw.count)?,
        selection: Selection::Names(vec![raw.heapName.clone()]),
        label: Label::default(),
        unzeroed: false,
        metadata: None,
    })
}

fn alignment(raw: i64) -> Result<u64, Invalid> {
    match u64::try_from(raw) {
        Ok(bytes) if bytes == 0 || bytes.is_power_of_two() => Ok(bytes),
        _ => Err(Invalid::new("alignment", raw, "it must be 0 or a power of two")),
    }
}

fn access(raw: Access) -> Result<units::Access, Invalid> {
    match raw {
        Access::READ_WRITE => Ok(units::Access::ReadWrite),
        Access::READ_ONLY => Ok(units::Access::ReadOnly),
        other => Err(Invalid::new("access", other.0, "it must be READ_WRITE (0) or READ_ONLY (1)")),
    }
}

fn selection(raw: &AllocationRequest) -> Result<Selection, Invalid> {
    let exclusive = "exactly one of heapIdMask and heapNames must select heaps";
    match (raw.heapIdMask, raw.heapNames.len()) {
        (0, 0) => Err(Invalid::new("heapIdMask", 0, exclusive)),
        (mask, 0) => Ok(Selection::Mask(HeapMask(mask.cast_unsigned()))),
        (0, 1..=MAX_HEAPS) => Ok(Selection::Names(raw.heapNames.clone())),
        (0, names) => Err(Invalid::new(
            "heapNames",
            format!("a list of {names}"),
            format!("it must have at most {MAX_HEAPS}"),
        )),
        (mask, names) => {
            Err(Invalid::new("heapIdMask", format!("{mask:#x} beside {names} heapNames"), exclusive))
        }
    }
}

/// Checks the number of bytes to trim.
pub(super) fn trim_bytes(raw: i64) -> Result<u64, Invalid> {
    u64::try_from(raw).map_err(|_| Invalid::new("bytes", raw, "it must not be negative"))
}

/// Checks ids of buffers.
pub(super) fn buffer_ids(raw: &[i64]) -> Result<Vec<BufferId>, Invalid> {
    let id = |raw: &i64| {
        u64::try_from(*raw).map(BufferId).map_err(|_| Invalid::new("ids", raw, "no buffer has a negative id"))
    };
    raw.iter().map(id).collect()
}

fn backing(backing: units::Backing) -> Backing {
    match backing {
        units::Backing::Memfd => Backing::MEMFD,
        units::Backing::Ashmem => Backing::ASHMEM,
        units::Backing::Udmabuf => Backing::UDMABUF,
        units::Backing::DmaHeap => Backing::DMA_HEAP,
        units::Backing::Ion => Backing::ION,
        units::Backing::Hugetlb => Backing::HUGETLB,
    }
}

fn release_mechanism(mechanism: source::ReleaseMechanism) -> ReleaseMechanism {
    match mechanism {
        source::ReleaseMechanism::CloseEvents => ReleaseMechanism::CLOSE_EVENTS,
        source::ReleaseMechanism::Leases => ReleaseMechanism::LEASES,
        source::ReleaseMechanism::ReferenceCounts => ReleaseMechanism::REFERENCE_COUNTS,
        source::ReleaseMechanism::Token => ReleaseMechanism::TOKEN,
    }
}

fn flags(heap: &Heap) -> i32 {
    let spec = heap.spec();
    let bits = [
        (spec.cached, HeapFlags::CACHED),
        (heap.is_contiguous(), HeapFlags::CONTIGUOUS),
        (heap.pool().is_kept(), HeapFlags::DEFERRED_FREE),
        (!spec.secure, HeapFlags::ZEROED),
        (spec.secure, HeapFlags::SECURE),
        (heap.gives(units::Access::ReadOnly), HeapFlags::READ_ONLY),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(0, |bits, (_, flag)| bits | flag.0)
}

pub(super) fn heap_info((priority, heap): (usize, &Heap)) -> HeapInfo {
    HeapInfo {
        id: heap.id().get().into(),
        name: heap.name().to_string(),
        aliases: heap.spec().aliases.iter().map(ToString::to_string).collect(),
        r#type: HeapType(heap.spec().kind.number().into()),
        backing: backing(heap.backing()),
        available: heap.unavailable().is_none(),
        unavailableReason: heap.unavailable().unwrap_or_default().to_owned(),
        passedOver: heap.passed_over(),
        releaseMechanism: release_mechanism(heap.release_mechanism()),
        capacity: long(heap.capacity().unwrap_or(0)),
        granule: long(heap.granularity()),
        maxAlignment: long(heap.max_alignment()),
        flags: flags(heap),
        priority: i32::try_from(priority).unwrap_or(i32::MAX),
        strideAlign: int(heap.spec().stride_align),
    }
}

pub(super) fn buffer(grant: Grant) -> Buffer {
    Buffer {
        fd: Some(ParcelFileDescriptor::new(grant.fd)),
        id: long(grant.id.0),
        size: long(grant.bytes.get()),
        heapId: grant.heap_id.get().into(),
        heapName: grant.heap_name.to_string(),
        backing: backing(grant.backing),
    }
}

pub(super) fn buffer_info(view: &BufferView<'_>) -> BufferInfo {
    let record = &view.record;
    BufferInfo {
        id: long(record.id.0),
        size: long(record.bytes.get()),
        heapId: view.heap.id().get().into(),
        heapName: view.heap.name().to_string(),
        backing: backing(view.backing),
        ownerUid: int(record.uid.0),
        ownerPid: record.pid,
        name: record.label.to_string(),
        inode: long(record.inode),
        ageMs: i64::try_from(view.age.as_millis()).unwrap_or(i64::MAX),
        graphic: record.graphic.map(graphic_info),
    }
}

fn graphic_info((graphic, metadata): (Graphic, BackedBytes)) -> GraphicInfo {
    GraphicInfo {
        width: int(graphic.width),
        height: int(graphic.height),
        format: graphic.format,
        usage: graphic.usage.cast_signed(),
        metadataSize: long(metadata.get()),
    }
}

pub(super) fn heap_stats(view: &HeapView<'_>) -> HeapStats {
    let counters = &view.counters;
    let failed = |cause| long(counters.failed(cause));
    let discarded = |cause| long(view.pool.discarded.of(cause));
    let fragmentation = view.heap.fragmentation();
    HeapStats {
        heapId: view.heap.id().get().into(),
        heapName: view.heap.name().to_string(),
        numOfBuffers: long(counters.buffers),
        numOfAllocBytes: long(counters.bytes),
        allocBytesWm: long(counters.bytes_watermark),
        liveBytes: long(counters.bytes - counters.deferred_bytes),
        deferredBytes: long(counters.deferred_bytes),
        pooledBytes: long(view.pool.pooled_bytes),
        reservedBytes: long(counters.reserved_bytes),
        capacity: long(view.heap.capacity().unwrap_or(0)),
        largestFreeBytes: fragmentation.map_or(0, |figures| long(figures.largest_free_bytes)),
        allocations: long(counters.allocations),
        frees: long(counters.frees),
        recycled: long(view.pool.hits),
        poolMisses: long(view.pool.misses),
        scrubbedBytes: long(view.pool.scrubbed_bytes),
        scrubbedInCallBytes: long(view.pool.scrubbed_in_call_bytes),
        unzeroed: long(view.pool.unzeroed),
        warmed: long(view.pool.preallocated),
        discarded: long(view.pool.discarded.total()),
        discardedFull: discarded(Discard::Full),
        discardedBusy: discarded(Discard::Busy),
        discardedSealed: discarded(Discard::Sealed),
        discardedUntouched: discarded(Discard::Untouched),
        discardedScarce: discarded(Discard::Scarce),
        discardedScrubFailed: discarded(Discard::ScrubFailed),
        failuresNoMemory: failed(FailureCause::NoMemory),
        failuresFragmented: fragmentation.map_or(0, |figures| long(figures.failures)),
        failuresQuota: failed(FailureCause::Quota),
        failuresNotPermitted: failed(FailureCause::NotPermitted),
        failuresUnsupported: failed(FailureCause::Unsupported),
        failuresBackend: failed(FailureCause::Backend),
        allocateLatency: view.latency.0.map(long).to_vec(),
    }
}

pub(super) fn pressure_level(level: allocator::PressureLevel) -> PressureLevel {
    match level {
        allocator::PressureLevel::None => PressureLevel::NONE,
        allocator::PressureLevel::Moderate => PressureLevel::MODERATE,
        allocator::PressureLevel::Critical => PressureLevel::CRITICAL,
    }
}

pub(super) fn client_usage(usage: Usage) -> ClientUsage {
    ClientUsage {
        uid: int(usage.uid.0),
        policy: usage.policy,
        bytes: long(usage.bytes),
        buffers: long(usage.buffers),
        reservedBytes: long(usage.reserved_bytes),
        peakBytes: long(usage.peak_bytes),
        quotaBytes: long(usage.max_bytes.unwrap_or(0)),
        quotaBuffers: long(usage.max_buffers.unwrap_or(0)),
    }
}

/// Converts an explanation; `error` is the code of [`allocator::Explanation::failure`], 0 if there
/// is none.
pub(super) fn explanation(explanation: &allocator::Explanation, error: i32) -> Explanation {
    let verdicts = explanation.verdicts.iter().map(|verdict| HeapVerdict {
        heapId: verdict.heap_id.map_or(-1, |id| id.get().into()),
        heapName: verdict.heap_name.clone(),
        verdict: verdict_code(&verdict.outcome),
        reason: verdict.outcome.to_string(),
        fitsBytes: long(verdict.fits_bytes),
    });
    Explanation {
        possible: explanation.failure().is_none(),
        chosenHeap: explanation.chosen().map(|verdict| verdict.heap_name.clone()).unwrap_or_default(),
        error,
        summary: explanation.to_string(),
        verdicts: verdicts.collect(),
    }
}

fn verdict_code(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::WouldServe => Verdict::WOULD_SERVE,
        Outcome::UnknownHeap => Verdict::UNKNOWN_HEAP,
        Outcome::Denied(_) => Verdict::NOT_PERMITTED,
        Outcome::Rejected(Rejection::Unavailable(_)) => Verdict::UNAVAILABLE,
        Outcome::Rejected(Rejection::Unsupported(_)) => Verdict::UNSUPPORTED,
        Outcome::Rejected(Rejection::TooLarge { .. }) => Verdict::NO_ROOM,
        Outcome::Refused(refusal) if refusal.is_quota() => Verdict::QUOTA_EXCEEDED,
        Outcome::Refused(_) | Outcome::Failed(_) => Verdict::NO_ROOM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator as interface;

    fn raw() -> AllocationRequest {
        AllocationRequest { size: 4096, count: 1, heapIdMask: -1, ..Default::default() }
    }

    #[test]
    fn the_default_request_with_a_size_and_a_mask_is_valid() {
        let request = request(&raw()).expect("valid");
        assert_eq!(request.selection, Selection::Mask(HeapMask(u32::MAX)));
    }

    #[test]
    fn the_interface_has_as_many_latency_classes_as_are_counted() {
        let classes = usize::try_from(interface::LATENCY_CLASSES).expect("positive");
        assert_eq!(classes, crate::allocator::LatencyCounts::default().0.len());
    }

    #[test]
    fn every_field_out_of_range_is_named() {
        let cases = [
            ("size", AllocationRequest { size: 0, ..raw() }),
            ("size", AllocationRequest { size: i64::MIN, ..raw() }),
            ("count", AllocationRequest { count: 65, ..raw() }),
            ("flags", AllocationRequest { flags: 4, ..raw() }),
            ("flags", AllocationRequest { flags: i32::MIN, ..raw() }),
            ("alignment", AllocationRequest { alignment: 3, ..raw() }),
            ("alignment", AllocationRequest { alignment: -4096, ..raw() }),
            ("name", AllocationRequest { name: "\u{7f}".into(), ..raw() }),
            ("access", AllocationRequest { access: Access(2), ..raw() }),
            ("heapIdMask", AllocationRequest { heapIdMask: 0, ..raw() }),
            ("heapIdMask", AllocationRequest { heapNames: vec!["a".into()], ..raw() }),
            ("heapNames", AllocationRequest { heapIdMask: 0, heapNames: vec!["a".into(); 33], ..raw() }),
        ];
        for (field, raw) in cases {
            assert_eq!(request(&raw).expect_err("out of range").field, field, "{raw:?}");
        }
    }
}
