// SPDX-License-Identifier: Apache-2.0
//! Tests the caller's own limits. Memory is allocated but never touched, so that a large quota can
//! be exhausted quickly.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode, HeapInfo, interface};
use crate::request::{Held, from_heap};
use anion_ipc::ServiceError;
use anyhow::{Context, Result, bail, ensure};

tests![
    Quiet request_beyond_the_byte_quota_is_refused,
    Quiet batch_beyond_the_byte_quota_is_refused,
    Quiet byte_quota_can_be_used_up,
    Quiet byte_quota_of_a_batch_is_all_or_none,
    Quiet buffer_quota_can_be_used_up,
    Quiet releases_keep_pace_with_allocations,
];

/// Tests do not exhaust a larger quota.
const LARGEST_BYTES: i64 = 4 << 30;
/// As [`LARGEST_BYTES`], for the number of buffers: each costs both sides a descriptor.
const LARGEST_BUFFERS: i64 = 4096;

/// A client that allocates and closes: bytes of each buffer, rounds between two checks, and the
/// maximum that may be accounted to it.
const CHURNED_BYTES: i64 = 2 << 20;
const CHURNS_A_LOOK: usize = 10;
const MOST_ACCOUNTED: i64 = 64 << 20;

/// Returns a heap that can hold more than `bytes`.
fn heap_for(fixture: &Fixture, bytes: i64) -> Result<&HeapInfo> {
    let holds = |heap: &&HeapInfo| heap.capacity == 0 || heap.capacity > bytes + heap.granule;
    fixture.usable().filter(holds).min_by_key(|heap| (heap.capacity, heap.granule)).map_or_else(
        || inapplicable(format!("no usable heap holds more than the quota of {bytes} bytes")),
        Ok,
    )
}

/// Returns the byte quota, and a heap that can hold more.
fn byte_quota(fixture: &Fixture) -> Result<(i64, &HeapInfo)> {
    match fixture.usage()?.quotaBytes {
        0 => inapplicable("this uid has no byte quota"),
        quota if quota > LARGEST_BYTES => {
            inapplicable(format!("the quota of {quota} bytes is too large to use up"))
        }
        quota => Ok((quota, heap_for(fixture, quota)?)),
    }
}

/// Allocates without the harness's tolerance for small quotas; the machine may still be too small.
fn take(fixture: &Fixture, request: &AllocationRequest) -> Result<Vec<Held>> {
    match fixture.service.allocate(request) {
        Ok(allocation) => crate::request::held(allocation),
        Err(status) => match ServiceError::of(&status) {
            Some(error) if error.code == ErrorCode::NO_MEMORY.0 => {
                inapplicable(format!("the machine has less memory than the quota: {error}"))
            }
            Some(error) => bail!("{request:?} within the quota: {error}"),
            None => bail!("transport: {status}"),
        },
    }
}

fn request_beyond_the_byte_quota_is_refused(fixture: &Fixture) -> Result<()> {
    let (quota, heap) = byte_quota(fixture)?;
    // A uid that holds nothing can use its whole quota for one buffer, unless the machine permits
    // one buffer less.
    let fits = fixture.fits(heap)?;
    if fits < quota / heap.granule * heap.granule {
        return inapplicable(format!("one buffer can have at most {fits} bytes here; the quota is {quota}"));
    }
    let message = fixture.refused(&from_heap(heap.id, quota + 1), &[ErrorCode::QUOTA_EXCEEDED])?.message;
    ensure!(
        message.contains(&quota.to_string()),
        "the message does not name the quota of {quota} bytes: {message}"
    );
    check_eq!(fixture.holding()?, (0, 0), "bytes and buffers held after a refusal");
    Ok(())
}

/// Each of the buffers fits, but all together do not.
fn batch_beyond_the_byte_quota_is_refused(fixture: &Fixture) -> Result<()> {
    let (quota, heap) = byte_quota(fixture)?;
    let request = AllocationRequest { count: 64, ..from_heap(heap.id, quota / 64 + heap.granule) };
    fixture.refused(&request, &[ErrorCode::QUOTA_EXCEEDED])?;
    check_eq!(fixture.holding()?, (0, 0), "bytes and buffers held after a refusal");
    Ok(())
}

/// Allocates the whole quota, in a few large buffers.
fn use_up(fixture: &Fixture, quota: i64, heap: &HeapInfo) -> Result<Vec<Held>> {
    fixture.require_quota(8, 0)?;
    let whole = quota / heap.granule * heap.granule;
    let part = (whole / 4 / heap.granule * heap.granule).max(heap.granule);
    let mut buffers = Vec::new();
    let mut left = whole;
    while left > 0 {
        let size = part.min(left);
        buffers.extend(take(fixture, &from_heap(heap.id, size))?);
        left -= size;
    }
    check_eq!(fixture.usage()?.bytes, whole, "bytes held of the quota");
    Ok(buffers)
}

/// A request beyond the quota is refused; after a release it succeeds at once, without waiting.
fn byte_quota_can_be_used_up(fixture: &Fixture) -> Result<()> {
    let (quota, heap) = byte_quota(fixture)?;
    let mut buffers = use_up(fixture, quota, heap)?;
    let full = fixture.usage()?;
    let one_more = from_heap(heap.id, heap.granule);
    fixture.refused(&one_more, &[ErrorCode::QUOTA_EXCEEDED])?;
    check_eq!(fixture.holding()?, (full.bytes, full.buffers), "bytes and buffers held after the refusal");
    for _ in 0..8 {
        drop(buffers.pop());
        buffers.extend(take(fixture, &one_more)?);
    }
    drop(buffers);
    fixture.await_holding(0, 0)
}

fn byte_quota_of_a_batch_is_all_or_none(fixture: &Fixture) -> Result<()> {
    let (quota, heap) = byte_quota(fixture)?;
    let mut buffers = use_up(fixture, quota, heap)?;
    let room = i64::try_from(buffers.pop().context("no buffer used the quota up")?.size)?;
    let bytes: u64 = buffers.iter().map(|buffer| buffer.size).sum();
    let left = (i64::try_from(bytes)?, i64::try_from(buffers.len())?);
    fixture.await_holding(left.0, left.1)?;
    // Some of the 16 would fit.
    let request = AllocationRequest { count: 16, ..from_heap(heap.id, room / 8 + heap.granule) };
    fixture.refused(&request, &[ErrorCode::QUOTA_EXCEEDED])?;
    check_eq!(fixture.holding()?, left, "bytes and buffers held after a refused batch");
    Ok(())
}

fn buffer_quota_can_be_used_up(fixture: &Fixture) -> Result<()> {
    let usage = fixture.usage()?;
    let quota = match usage.quotaBuffers {
        0 => return inapplicable("this uid has no buffer quota"),
        quota if quota > LARGEST_BUFFERS => {
            return inapplicable(format!("the quota of {quota} buffers is too large to use up"));
        }
        quota => quota,
    };
    let heap = heap_for(fixture, 0)?;
    fixture.require_quota(0, (quota + 1) * heap.granule)?;
    let heap = heap_for(fixture, (quota + 1) * heap.granule)?;
    let mut buffers: Vec<Held> = Vec::new();
    loop {
        let left = i32::try_from(quota - i64::try_from(buffers.len())?)?;
        if left == 0 {
            break;
        }
        let count = left.min(interface::MAX_COUNT);
        buffers.extend(take(fixture, &AllocationRequest { count, ..from_heap(heap.id, 1) })?);
    }
    check_eq!(fixture.usage()?.buffers, quota, "buffers held");
    let message = fixture.refused(&from_heap(heap.id, 1), &[ErrorCode::QUOTA_EXCEEDED])?.message;
    ensure!(
        message.contains(&quota.to_string()),
        "the message does not name the quota of {quota} buffers: {message}"
    );
    drop(buffers.pop());
    buffers.extend(take(fixture, &from_heap(heap.id, 1))?);
    drop(buffers);
    fixture.await_holding(0, 0)
}

/// A client that holds one buffer at a time is never accounted for many: releases are detected as
/// fast as it allocates.
fn releases_keep_pace_with_allocations(fixture: &Fixture) -> Result<()> {
    let has_room = |heap: &&HeapInfo| heap.capacity == 0 || heap.capacity >= MOST_ACCOUNTED;
    let heaps: Vec<_> = fixture.reported().filter(has_room).collect();
    if heaps.is_empty() {
        return inapplicable("no usable heap has room for 64 MiB and releases that the kernel reports");
    }
    for heap in heaps {
        for round in 0..fixture.rounds {
            drop(fixture.allocate_one(&from_heap(heap.id, CHURNED_BYTES))?);
            if round % CHURNS_A_LOOK == 0 {
                let (bytes, buffers) = fixture.holding()?;
                ensure!(
                    bytes <= MOST_ACCOUNTED,
                    "heap {}: {bytes} bytes in {buffers} buffers are accounted after {round} rounds; none is held",
                    heap.name
                );
            }
        }
        fixture.await_holding(0, 0)?;
    }
    Ok(())
}
