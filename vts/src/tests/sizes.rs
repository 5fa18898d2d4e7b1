// SPDX-License-Identifier: Apache-2.0
//! Tests sizes and labels of requests: malformed values, impossible sizes, and rounding.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{Access, AllocationFlags, AllocationRequest, ErrorCode, interface};
use crate::request::{from_any, from_heap};
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, ensure};

tests![
    Shared size_is_rounded_up_to_the_allocation_granularity,
    Shared size_that_is_not_positive_is_refused,
    Shared size_beyond_the_machine_is_refused,
    Shared size_beyond_the_heap_is_refused_with_its_capacity,
    Shared count_outside_1_to_64_is_refused,
    Shared undefined_flag_is_refused,
    Shared undefined_access_is_refused,
    Shared alignment_that_is_no_power_of_two_is_refused,
    Shared alignment_up_to_the_maximum_is_given,
    Shared alignment_beyond_the_maximum_is_unsupported,
    Shared label_of_31_printable_bytes_is_kept,
    Shared label_that_is_long_or_not_printable_is_refused,
];

/// Expects BAD_REQUEST from allocate and explain, with a message that has every part.
fn malformed(fixture: &Fixture, request: &AllocationRequest, parts: &[&str]) -> Result<()> {
    let message = fixture.refused(request, &[ErrorCode::BAD_REQUEST])?.message;
    for part in parts {
        ensure!(message.contains(part), "the message does not contain {part:?}: {message}");
    }
    crate::outcome::expect_error(fixture.service.explain(request), &[ErrorCode::BAD_REQUEST])
        .with_context(|| format!("explain of {request:?}"))?;
    Ok(())
}

fn size_is_rounded_up_to_the_allocation_granularity(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let granule = heap.granule;
        for (asked, multiples) in
            [(1, 1), (granule - 1, 1), (granule, 1), (granule + 1, 2), (3 * granule - 1, 3)]
        {
            if asked < 1 || (heap.capacity != 0 && multiples * granule > heap.capacity) {
                continue;
            }
            let buffer = fixture.allocate_one(&from_heap(heap.id, asked))?;
            check_eq!(
                i64::try_from(buffer.size)?,
                multiples * granule,
                "{asked} bytes from heap {}",
                heap.name
            );
        }
    }
    Ok(())
}

fn size_that_is_not_positive_is_refused(fixture: &Fixture) -> Result<()> {
    for size in [0, -1, -4096, i64::from(i32::MIN), i64::MIN + 1, i64::MIN] {
        malformed(fixture, &from_any(size), &["size", &size.to_string()])?;
    }
    Ok(())
}

/// No machine has this much memory, so every heap must refuse, even if a sparse file could have
/// this size.
fn size_beyond_the_machine_is_refused(fixture: &Fixture) -> Result<()> {
    let codes = [ErrorCode::NO_MEMORY, ErrorCode::QUOTA_EXCEEDED];
    for size in [1 << 56, 1 << 62, i64::MAX - 4095, i64::MAX - 1, i64::MAX] {
        for count in [1, interface::MAX_COUNT] {
            fixture.refused(&AllocationRequest { count, ..from_any(size) }, &codes)?;
        }
        for heap in fixture.usable() {
            fixture.refused(&from_heap(heap.id, size), &codes)?;
        }
    }
    Ok(())
}

/// As in ION: the heap never has room for it.
fn size_beyond_the_heap_is_refused_with_its_capacity(fixture: &Fixture) -> Result<()> {
    let limited: Vec<_> = fixture.usable().filter(|heap| heap.capacity > 0).collect();
    for heap in &limited {
        let size = heap.capacity + 1;
        let message = fixture.refused(&from_heap(heap.id, size), &[ErrorCode::NO_MEMORY])?.message;
        for part in [heap.name.clone(), heap.capacity.to_string()] {
            ensure!(message.contains(&part), "the message does not contain {part}: {message}");
        }
    }
    if limited.is_empty() { inapplicable("no usable heap has a limit of its own") } else { Ok(()) }
}

fn count_outside_1_to_64_is_refused(fixture: &Fixture) -> Result<()> {
    check_eq!(interface::MAX_COUNT, 64, "MAX_COUNT");
    for count in [0, -1, 65, 1024, i32::MAX, i32::MIN] {
        let request = AllocationRequest { count, ..from_any(4096) };
        malformed(fixture, &request, &["count", &count.to_string(), "64"])?;
    }
    Ok(())
}

/// A valid request first, then the same with one undefined bit.
fn undefined_flag_is_refused(fixture: &Fixture) -> Result<()> {
    fixture.allocate_one(&from_any(1))?;
    let defined = AllocationFlags::enum_values().iter().fold(0, |bits, flag| bits | flag.0);
    for flags in (0..32).map(|bit| 1_i32 << bit).filter(|flag| flag & defined == 0).chain([-1]) {
        malformed(fixture, &AllocationRequest { flags, ..from_any(1) }, &["flags"])?;
    }
    Ok(())
}

fn undefined_access_is_refused(fixture: &Fixture) -> Result<()> {
    for access in [2, -1, i32::MAX, i32::MIN] {
        let request = AllocationRequest { access: Access(access), ..from_any(1) };
        malformed(fixture, &request, &["access", &access.to_string()])?;
    }
    Ok(())
}

fn alignment_that_is_no_power_of_two_is_refused(fixture: &Fixture) -> Result<()> {
    for alignment in [3, 4095, 4097, -1, -4096, i64::MIN, i64::MAX] {
        let request = AllocationRequest { alignment, ..from_any(1) };
        malformed(fixture, &request, &["alignment", &alignment.to_string()])?;
    }
    Ok(())
}

fn alignment_up_to_the_maximum_is_given(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        for alignment in [1, 2, heap.maxAlignment] {
            fixture.allocate_one(&AllocationRequest { alignment, ..from_heap(heap.id, 1) })?;
        }
    }
    Ok(())
}

fn alignment_beyond_the_maximum_is_unsupported(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        for alignment in [heap.maxAlignment.saturating_mul(2), 1 << 62] {
            let request = AllocationRequest { alignment, ..from_heap(heap.id, 1) };
            fixture.refused(&request, &[ErrorCode::UNSUPPORTED])?;
        }
    }
    Ok(())
}

fn label_of_31_printable_bytes_is_kept(fixture: &Fixture) -> Result<()> {
    check_eq!(interface::MAX_NAME_BYTES, 31, "MAX_NAME_BYTES");
    for name in ["", " ", "preview stream #0 (\"a\\b\") ~!@$%", &"x".repeat(31)] {
        let buffer = fixture.allocate_one(&AllocationRequest { name: name.into(), ..from_any(1) })?;
        let info = fixture.service.describe(&ParcelFileDescriptor::new(buffer.fd.try_clone()?))?;
        check_eq!(info.name, name, "label");
    }
    Ok(())
}

fn label_that_is_long_or_not_printable_is_refused(fixture: &Fixture) -> Result<()> {
    let long = "x".repeat(32);
    for name in
        [long.as_str(), "tab\t", "line\nbreak", "nul\0", "escape\u{1b}[31m", "del\u{7f}", "naïve", "写真"]
    {
        malformed(fixture, &AllocationRequest { name: name.into(), ..from_any(1) }, &["name"])?;
    }
    // Refused, and the message does not repeat the whole name.
    let endless = AllocationRequest { name: "x".repeat(64 << 10), ..from_any(1) };
    let message = fixture.refused(&endless, &[ErrorCode::BAD_REQUEST])?.message;
    ensure!(message.len() < 4096, "a label of 64 KiB brings a message of {} bytes", message.len());
    Ok(())
}
