// SPDX-License-Identifier: Apache-2.0
//! Every byte of every buffer is zero, whoever had the memory before.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{Access, AllocationRequest, HeapInfo};
use crate::request::{Held, from_heap};
use crate::sys::Mapping;
use anyhow::Result;
use nix::sys::uio::pwrite;

tests![
    Shared fresh_buffer_is_zero,
    Shared zeroed_after_reuse,
    Shared zeroed_after_reuse_of_the_same_size,
    Shared read_only_buffer_is_zero_after_reuse,
    Shared zeroed_after_writes_without_a_mapping,
    Shared last_holder_letting_go_late_does_not_leak,
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

/// A batch of buffers of about `size` bytes that together have at most [`DIRTIED`] bytes, or one granule.
fn batch(heap: &HeapInfo, size: i64) -> Result<AllocationRequest> {
    let total = if heap.capacity == 0 { DIRTIED } else { DIRTIED.min(heap.capacity / 4) };
    let rounded = (size + heap.granule - 1) / heap.granule * heap.granule;
    let count = i32::try_from((total / rounded).clamp(1, 64))?;
    Ok(AllocationRequest { count, ..from_heap(heap.id, size) })
}

fn fresh_buffer_is_zero(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for size in [1, heap.granule, 3 * heap.granule, 1 << 20] {
            expect_zero(&fixture.allocate(&AllocationRequest { count: 1, ..batch(heap, size)? })?)?;
        }
    }
    Ok(())
}

/// Different sizes in turn, so that memory of one size is taken for another.
fn zeroed_after_reuse(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for size in [64 << 10, 1, 1 << 20, 256 << 10, 4 << 10, 64 << 10] {
            let buffers = fixture.allocate(&batch(heap, size)?)?;
            expect_zero(&buffers)?;
            dirty(&buffers)?;
        }
    }
    Ok(())
}

/// A pool keyed by size hands the very same memory out again.
fn zeroed_after_reuse_of_the_same_size(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for _ in 0..8 {
            let buffers = fixture.allocate(&AllocationRequest { count: 4, ..batch(heap, 128 << 10)? })?;
            expect_zero(&buffers)?;
            dirty(&buffers)?;
        }
    }
    Ok(())
}

fn read_only_buffer_is_zero_after_reuse(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for _ in 0..4 {
            let buffers = fixture.allocate(&batch(heap, 64 << 10)?)?;
            dirty(&buffers)?;
            drop(buffers);
            let request = AllocationRequest { access: Access::READ_ONLY, ..batch(heap, 64 << 10)? };
            expect_zero(&fixture.allocate(&request)?)?;
        }
    }
    Ok(())
}

/// Memory that no process ever mapped for writing is dirty all the same.
fn zeroed_after_writes_without_a_mapping(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    for _ in 0..4 {
        let buffers = fixture.allocate(&batch(heap, 64 << 10)?)?;
        expect_zero(&buffers)?;
        for buffer in &buffers {
            let last = i64::try_from(buffer.size)? - 16;
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

/// The descriptor is closed first and the mapping dirtied last: the memory must not be cleaned at the close alone.
fn last_holder_letting_go_late_does_not_leak(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        for _ in 0..4 {
            let buffer = fixture.allocate_one(&from_heap(heap.id, 128 << 10))?;
            let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
            drop(buffer);
            let next = fixture.allocate_one(&from_heap(heap.id, 128 << 10))?;
            mapping.fill(DIRT);
            expect_zero(&[next])?;
            drop(mapping);
            expect_zero(&[fixture.allocate_one(&from_heap(heap.id, 128 << 10))?])?;
        }
    }
    Ok(())
}
