// SPDX-License-Identifier: Apache-2.0
//! Tests that every byte of every buffer is zero, whichever client had the memory before.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{Access, AllocationRequest, HeapInfo};
use crate::request::{Held, from_heap};
use crate::sys::Mapping;
use anyhow::Result;
use nix::libc::off_t;
use nix::sys::uio::pwrite;

tests![
    Shared fresh_buffer_is_zero,
    Shared zeroed_after_reuse,
    Shared zeroed_after_reuse_of_the_same_size,
    Shared read_only_buffer_is_zero_after_reuse,
    Shared zeroed_after_writes_without_a_mapping,
    Shared last_holder_that_closes_late_does_not_leak,
];

/// No byte of it is zero.
const DIRT: u64 = 0xdddd_dddd_dddd_dddd;
/// Bytes dirtied at once per heap.
const DIRTIED: i64 = 4 << 20;

fn expect_zero(buffers: &[Held]) -> Result<()> {
    for buffer in buffers {
        let mapping = Mapping::read_only(&buffer.fd, buffer.size)?;
        let dirty = mapping.first_other_than(0);
        check_eq!(
            dirty.map(|index| (index, mapping.load(index))),
            None,
            "first word that is not zero in buffer {} of heap {}",
            buffer.id,
            buffer.heap_name
        );
    }
    Ok(())
}

fn dirty(buffers: &[Held]) -> Result<()> {
    for buffer in buffers {
        Mapping::writable(&buffer.fd, buffer.size)?.fill(DIRT);
    }
    Ok(())
}

/// Returns a batch of buffers of `size` bytes that is as large as [`DIRTIED`], the heap and the
/// quota admit.
fn batch(fixture: &Fixture, heap: &HeapInfo, size: i64) -> Result<AllocationRequest> {
    let usage = fixture.usage()?;
    let share = |limit: i64, parts: i64| if limit == 0 { i64::MAX } else { limit / parts };
    let bytes = DIRTIED.min(share(heap.capacity, 8)).min(share(usage.quotaBytes, 2));
    let rounded = (size + heap.granule - 1) / heap.granule * heap.granule;
    let buffers = (bytes / rounded).clamp(1, share(usage.quotaBuffers, 2).clamp(1, 64));
    Ok(AllocationRequest { count: i32::try_from(buffers)?, ..from_heap(heap.id, size) })
}

fn fresh_buffer_is_zero(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for size in [1, heap.granule, 3 * heap.granule, 1 << 20] {
            if heap.capacity != 0 && size > heap.capacity {
                continue;
            }
            expect_zero(&fixture.allocate(&from_heap(heap.id, size))?)?;
        }
    }
    Ok(())
}

/// Different sizes alternate, so that memory of one size is reused for another.
fn zeroed_after_reuse(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for size in [64 << 10, 1, 1 << 20, 256 << 10, 4 << 10, 64 << 10] {
            let buffers = fixture.allocate(&batch(fixture, heap, size)?)?;
            expect_zero(&buffers)?;
            dirty(&buffers)?;
        }
    }
    Ok(())
}

/// A pool with lists by size reuses the same memory.
fn zeroed_after_reuse_of_the_same_size(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for _ in 0..8 {
            let buffers = fixture.allocate(&batch(fixture, heap, 128 << 10)?)?;
            expect_zero(&buffers)?;
            dirty(&buffers)?;
        }
    }
    Ok(())
}

fn read_only_buffer_is_zero_after_reuse(fixture: &Fixture) -> Result<()> {
    for heap in fixture.with_read_only()? {
        for _ in 0..4 {
            let buffers = fixture.allocate(&batch(fixture, heap, 64 << 10)?)?;
            dirty(&buffers)?;
            drop(buffers);
            let request = AllocationRequest { access: Access::READ_ONLY, ..batch(fixture, heap, 64 << 10)? };
            expect_zero(&fixture.allocate(&request)?)?;
        }
    }
    Ok(())
}

/// Memory that was never mapped for writing can also be dirty.
fn zeroed_after_writes_without_a_mapping(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    for _ in 0..4 {
        let buffers = fixture.allocate(&batch(fixture, heap, 64 << 10)?)?;
        expect_zero(&buffers)?;
        for buffer in &buffers {
            let last = off_t::try_from(buffer.size)? - 16;
            for offset in [0, last / 2, last] {
                if pwrite(&buffer.fd, &[0xdd; 16], offset) != Ok(16) {
                    return inapplicable(format!(
                        "a {:?} cannot be written without a mapping",
                        buffer.backing
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The descriptor is closed before the last write through the mapping: the memory must not be
/// cleaned at that close already.
fn last_holder_that_closes_late_does_not_leak(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for _ in 0..4 {
            let request = from_heap(heap.id, if heap.capacity == 0 { 128 << 10 } else { heap.granule });
            let buffer = fixture.allocate_one(&request)?;
            let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
            drop(buffer);
            let next = fixture.allocate_one(&request)?;
            mapping.fill(DIRT);
            expect_zero(&[next])?;
            drop(mapping);
            expect_zero(&[fixture.allocate_one(&request)?])?;
        }
    }
    Ok(())
}
