// SPDX-License-Identifier: Apache-2.0
//! Tests counters of heaps, usage of clients, and trim. Other uids may be clients too, so tests
//! only check that heap counters include what this process added.

use crate::harness::{Fixture, RELEASE_DEADLINE};
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode, HeapStats, interface};
use crate::request::{from_heap, from_names};
use crate::sys::Mapping;
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::time::Instant;

tests![
    Shared stats_list_the_heaps_in_order,
    Shared stats_are_consistent,
    Shared stats_count_what_is_handed_out_and_released,
    Shared stats_count_failures_by_cause,
    Shared stats_time_every_call_that_was_served,
    Shared usage_shows_only_the_own_uid_to_others,
    Shared usage_shows_every_uid_to_the_privileged,
    Quiet peak_is_kept,
    Shared trim_is_for_the_privileged,
    Shared trim_checks_its_arguments,
    Shared trim_gives_unheld_memory_back,
    Shared trim_leaves_held_memory_alone,
];

fn stats_of(fixture: &Fixture, id: i32) -> Result<HeapStats> {
    let stats = fixture.service.getStats()?;
    stats.into_iter().find(|heap| heap.heapId == id).with_context(|| format!("getStats lacks heap {id}"))
}

fn stats_list_the_heaps_in_order(fixture: &Fixture) -> Result<()> {
    let listed: Vec<_> =
        fixture.heaps.iter().map(|heap| (heap.id, heap.name.clone(), heap.capacity)).collect();
    let stats = fixture.service.getStats()?;
    let counted: Vec<_> = stats.into_iter().map(|heap| (heap.heapId, heap.heapName, heap.capacity)).collect();
    check_eq!(counted, listed, "ids, names and capacities of getStats");
    Ok(())
}

fn stats_are_consistent(fixture: &Fixture) -> Result<()> {
    for _ in 0..20 {
        for heap in fixture.service.getStats()? {
            let name = &heap.heapName;
            let parts = [
                heap.numOfBuffers,
                heap.liveBytes,
                heap.deferredBytes,
                heap.pooledBytes,
                heap.reservedBytes,
                heap.warmed,
                heap.frees,
                heap.recycled,
                heap.poolMisses,
                heap.scrubbedBytes,
                heap.discarded,
                heap.largestFreeBytes,
                heap.failuresNoMemory,
                heap.failuresFragmented,
                heap.failuresQuota,
                heap.failuresNotPermitted,
                heap.failuresUnsupported,
                heap.failuresBackend,
            ];
            ensure!(parts.iter().all(|value| *value >= 0), "a counter is negative: {heap:?}");
            check_eq!(
                heap.numOfAllocBytes,
                heap.liveBytes + heap.deferredBytes,
                "{name}: live and deferred bytes"
            );
            let causes = [
                heap.discardedFull,
                heap.discardedBusy,
                heap.discardedSealed,
                heap.discardedUntouched,
                heap.discardedScarce,
                heap.discardedScrubFailed,
            ];
            ensure!(causes.iter().all(|cause| *cause >= 0), "a cause is negative: {heap:?}");
            check_eq!(heap.discarded, causes.iter().sum::<i64>(), "{name}: discarded, and its causes");
            ensure!(heap.allocBytesWm >= heap.numOfAllocBytes, "{name}: below its water mark: {heap:?}");
            ensure!(heap.allocations >= heap.frees, "{name}: more frees than allocations: {heap:?}");
            ensure!(heap.allocations >= heap.recycled, "{name}: more recycled than allocated: {heap:?}");
            ensure!(
                heap.numOfBuffers >= heap.allocations - heap.frees,
                "{name}: live buffers are lost: {heap:?}"
            );
            ensure!(
                (heap.numOfBuffers == 0) == (heap.numOfAllocBytes == 0),
                "{name}: empty buffers: {heap:?}"
            );
            ensure!(heap.failuresFragmented <= heap.failuresNoMemory, "{name}: other failures: {heap:?}");
            ensure!(heap.largestFreeBytes <= heap.capacity, "{name}: more is free than it has: {heap:?}");
            if heap.capacity > 0 {
                ensure!(heap.numOfAllocBytes <= heap.capacity, "{name}: beyond its capacity: {heap:?}");
            }
        }
    }
    Ok(())
}

fn stats_count_what_is_handed_out_and_released(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let before = stats_of(fixture, heap.id)?;
        let buffers = fixture.allocate(&AllocationRequest { count: 3, ..from_heap(heap.id, 1) })?;
        let held = stats_of(fixture, heap.id)?;
        ensure!(held.allocations >= before.allocations + 3, "{}: allocations not counted", heap.name);
        ensure!(held.liveBytes >= 3 * heap.granule, "{}: held bytes not counted: {held:?}", heap.name);
        ensure!(held.numOfBuffers >= 3, "{}: held buffers not counted: {held:?}", heap.name);
        ensure!(held.allocBytesWm >= before.allocBytesWm, "{}: the water mark fell", heap.name);
        drop(buffers);
        let start = Instant::now();
        while stats_of(fixture, heap.id)?.frees < before.frees + 3 {
            ensure!(start.elapsed() < RELEASE_DEADLINE, "{}: releases are not counted", heap.name);
        }
    }
    Ok(())
}

fn stats_count_failures_by_cause(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let before = stats_of(fixture, heap.id)?;
        let request = AllocationRequest { alignment: 1 << 62, ..from_heap(heap.id, 1) };
        fixture.refused(&request, &[ErrorCode::UNSUPPORTED])?;
        let after = stats_of(fixture, heap.id)?;
        ensure!(after.failuresUnsupported > before.failuresUnsupported, "{}: not counted", heap.name);
        check_eq!(after.failuresBackend, before.failuresBackend, "{}: unexpected kernel failures", heap.name);
    }
    Ok(())
}

/// # Errors
/// [`inapplicable`] if the caller's privilege is not the wanted one.
fn require_privilege(fixture: &Fixture, wanted: bool) -> Result<()> {
    match fixture.is_privileged()? {
        is if is == wanted => Ok(()),
        true => inapplicable(format!("uid {} is privileged", fixture.uid)),
        false => inapplicable(format!("uid {} is not privileged", fixture.uid)),
    }
}

fn stats_time_every_call_that_was_served(fixture: &Fixture) -> Result<()> {
    const CALLS: i64 = 5;
    let heap = fixture.roomy()?;
    let before = stats_of(fixture, heap.id)?.allocateLatency;
    for _ in 0..CALLS {
        fixture.allocate(&AllocationRequest { count: 3, ..from_heap(heap.id, 1) })?;
    }
    let after = stats_of(fixture, heap.id)?.allocateLatency;
    check_eq!(i32::try_from(after.len())?, interface::LATENCY_CLASSES, "classes of heap {}", heap.name);
    ensure!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?}, then {after:?}");
    let calls: i64 = after.iter().sum::<i64>() - before.iter().sum::<i64>();
    ensure!(calls >= CALLS, "{calls} calls were timed after {CALLS} were served");
    Ok(())
}

fn usage_shows_only_the_own_uid_to_others(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, false)?;
    let uids: Vec<_> = fixture.service.getUsage()?.iter().map(|row| row.uid.cast_unsigned()).collect();
    check_eq!(uids, vec![fixture.uid], "uids that an unprivileged caller sees");
    Ok(())
}

fn usage_shows_every_uid_to_the_privileged(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, true)?;
    let heap = fixture.roomy()?;
    let _held = fixture.allocate_one(&from_heap(heap.id, 1))?;
    let rows = fixture.service.getUsage()?;
    ensure!(i32::try_from(rows.len())? <= interface::MAX_USAGE_ROWS, "{} rows", rows.len());
    ensure!(rows.windows(2).all(|pair| pair[0].bytes >= pair[1].bytes), "not by bytes: {rows:?}");
    let uids: HashSet<_> = rows.iter().map(|row| row.uid).collect();
    check_eq!(uids.len(), rows.len(), "distinct uids");
    ensure!(
        uids.contains(&fixture.uid.cast_signed()),
        "uid {} holds a buffer and is not listed",
        fixture.uid
    );
    for row in &rows {
        ensure!(
            row.bytes >= 0 && row.buffers >= 0 && row.reservedBytes >= 0 && row.peakBytes >= row.bytes,
            "impossible: {row:?}"
        );
        ensure!(!row.policy.is_empty(), "no policy: {row:?}");
        ensure!(
            row.quotaBytes == 0 || row.bytes + row.reservedBytes <= row.quotaBytes,
            "beyond its quota: {row:?}"
        );
        ensure!(row.quotaBuffers == 0 || row.buffers <= row.quotaBuffers, "beyond its quota: {row:?}");
    }
    Ok(())
}

fn peak_is_kept(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let before = fixture.usage()?.peakBytes;
    // More than the peak, if that fits; the memory is not touched.
    let size = (before + 1).min(fixture.fits(heap)?).min(1 << 30);
    let buffer = fixture.allocate_one(&from_heap(heap.id, size))?;
    let bytes = i64::try_from(buffer.size)?;
    check_eq!(fixture.usage()?.peakBytes, before.max(bytes), "peak while {bytes} bytes are held");
    drop(buffer);
    fixture.await_holding(0, 0)?;
    check_eq!(fixture.usage()?.peakBytes, before.max(bytes), "peak after the release");
    Ok(())
}

fn trim_is_for_the_privileged(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, false)?;
    let name = &fixture.heaps.first().context("no heaps")?.name;
    for (heap, bytes) in [("", 0), (name.as_str(), 0), (name.as_str(), 4096)] {
        expect_error(fixture.service.trim(heap, bytes), &[ErrorCode::NOT_PERMITTED])
            .with_context(|| format!("trim of {heap:?}"))?;
    }
    Ok(())
}

fn trim_checks_its_arguments(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, true)?;
    for bytes in [-1, i64::MIN] {
        let message = expect_error(fixture.service.trim("", bytes), &[ErrorCode::BAD_REQUEST])?.message;
        ensure!(message.contains(&bytes.to_string()), "the message does not name {bytes}: {message}");
    }
    let message = expect_error(fixture.service.trim("no-such-heap", 0), &[ErrorCode::UNKNOWN_HEAP])?.message;
    ensure!(message.contains("no-such-heap"), "the message does not name the heap: {message}");
    for heap in &fixture.heaps {
        for name in std::iter::once(&heap.name).chain(&heap.aliases) {
            let returned = fixture.service.trim(name, 1).with_context(|| format!("trim of {name}"))?;
            ensure!(returned >= 0, "trim of {name} returned {returned}");
        }
    }
    let returned = fixture.service.trim("", i64::MAX)?;
    ensure!(returned >= 0, "trim of everything returned {returned}");
    Ok(())
}

/// Others release memory all the time, so the value must be zero once, and need not stay zero.
fn trim_gives_unheld_memory_back(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, true)?;
    let heap = fixture.roomy()?;
    drop(fixture.allocate(&AllocationRequest { count: 8, ..from_heap(heap.id, 64 << 10) })?);
    let start = Instant::now();
    loop {
        fixture.service.trim(&heap.name, 0)?;
        let stats = stats_of(fixture, heap.id)?;
        if stats.deferredBytes + stats.pooledBytes == 0 {
            return Ok(());
        }
        ensure!(start.elapsed() < RELEASE_DEADLINE, "heap {} keeps unheld memory: {stats:?}", heap.name);
    }
}

fn trim_leaves_held_memory_alone(fixture: &Fixture) -> Result<()> {
    require_privilege(fixture, true)?;
    for heap in fixture.mappable()? {
        let buffer = fixture.allocate_one(&from_names(&[&heap.name], 1))?;
        let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
        mapping.fill(0xfeed);
        fixture.service.trim("", 0)?;
        check_eq!(
            mapping.first_other_than(0xfeed),
            None,
            "first word that trim changed in heap {}",
            heap.name
        );
        check_eq!(
            fixture.service.describe(&ParcelFileDescriptor::new(buffer.fd.try_clone()?))?.id,
            buffer.id,
            "id after trim"
        );
    }
    Ok(())
}
