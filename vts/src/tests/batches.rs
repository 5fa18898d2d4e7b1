// SPDX-License-Identifier: Apache-2.0
//! Tests requests for several buffers: all of one heap, or none.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode, interface};
use crate::request::{from_any, from_heap};
use anyhow::{Result, ensure};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

tests![
    Shared batch_of_64_comes_from_one_heap,
    Shared buffers_of_a_batch_are_distinct,
    Shared batch_beyond_the_heap_is_refused,
    Quiet failed_batch_charges_nothing,
    Shared thousand_allocations_never_repeat_an_id,
];

fn full_batch(fixture: &Fixture) -> Result<AllocationRequest> {
    let heap = fixture.roomy()?;
    fixture.require_quota(64, 64 * heap.granule)?;
    Ok(AllocationRequest { count: interface::MAX_COUNT, ..from_heap(heap.id, 1) })
}

fn batch_of_64_comes_from_one_heap(fixture: &Fixture) -> Result<()> {
    let buffers = fixture.allocate(&full_batch(fixture)?)?;
    for buffer in &buffers {
        check_eq!(
            (buffer.heap_id, &buffer.heap_name, buffer.backing, buffer.size),
            (buffers[0].heap_id, &buffers[0].heap_name, buffers[0].backing, buffers[0].size),
            "heap, backing and size of a buffer of a batch"
        );
    }
    Ok(())
}

fn buffers_of_a_batch_are_distinct(fixture: &Fixture) -> Result<()> {
    let buffers = fixture.allocate(&full_batch(fixture)?)?;
    let ids: HashSet<_> = buffers.iter().map(|buffer| buffer.id).collect();
    check_eq!(ids.len(), buffers.len(), "distinct ids");
    let mut inodes = HashSet::new();
    for buffer in &buffers {
        inodes.insert(File::from(buffer.fd.try_clone()?).metadata()?.ino());
    }
    check_eq!(inodes.len(), buffers.len(), "distinct files");
    Ok(())
}

fn batch_beyond_the_heap_is_refused(fixture: &Fixture) -> Result<()> {
    let Some(heap) = fixture.usable().find(|heap| heap.capacity > 0) else {
        return inapplicable("no usable heap has a limit of its own");
    };
    // One buffer fits, but two never do.
    let size = heap.capacity / 2 + 1;
    fixture.require_quota(2, heap.capacity + 2 * heap.granule)?;
    let request = AllocationRequest { count: 2, ..from_heap(heap.id, size) };
    fixture.refused(&request, &[ErrorCode::NO_MEMORY])?;
    Ok(())
}

fn failed_batch_charges_nothing(fixture: &Fixture) -> Result<()> {
    let held = fixture.allocate_one(&from_any(1))?;
    let before = (i64::try_from(held.size)?, 1);
    let codes = [ErrorCode::NO_MEMORY, ErrorCode::QUOTA_EXCEEDED];
    for heap in fixture.usable() {
        // All 64 together never fit.
        let size = if heap.capacity == 0 { 1 << 56 } else { heap.capacity / 64 + heap.granule };
        fixture.refused(&AllocationRequest { count: 64, ..from_heap(heap.id, size) }, &codes)?;
        check_eq!(fixture.holding()?, before, "bytes and buffers held after a refusal by heap {}", heap.name);
    }
    fixture.stays_holding(before.0, before.1, "one buffer is held and batches were refused")
}

fn thousand_allocations_never_repeat_an_id(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let mut ids = HashSet::new();
    for round in 0..1024 {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        ensure!(ids.insert(buffer.id), "allocation {round} got id {} again", buffer.id);
    }
    Ok(())
}
