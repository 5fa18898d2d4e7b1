// SPDX-License-Identifier: Apache-2.0
//! Tests the list of heaps, and the selection of heaps by a request.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{
    AllocationFlags, AllocationRequest, Backing, ErrorCode, HeapFlags, HeapInfo, HeapType, ReleaseMechanism,
    interface,
};
use crate::request::{from_any, from_heap, from_names};
use anyhow::{Result, ensure};
use std::collections::HashSet;

tests![
    Shared interface_has_a_version,
    Shared heaps_are_listed_by_descending_id,
    Shared heap_names_and_aliases_are_unique,
    Shared heap_properties_make_sense,
    Shared mask_tries_the_highest_id_first,
    Shared names_are_tried_in_the_order_given,
    Shared alias_selects_its_heap,
    Shared next_heap_serves_what_the_first_cannot,
    Shared heap_that_does_not_exist_is_unknown,
    Shared unknown_heaps_beside_a_known_one_are_passed_over,
    Shared heaps_are_selected_by_exactly_one_of_mask_and_names,
    Shared more_than_32_heap_names_are_refused,
    Shared unavailable_heap_is_unsupported,
    Shared closed_heap_is_not_permitted,
    Shared dma_buf_is_required_of_the_heap,
    Shared cached_mapping_is_required_of_the_heap,
];

fn interface_has_a_version(fixture: &Fixture) -> Result<()> {
    let version = fixture.service.getInterfaceVersion()?;
    ensure!((1..=2).contains(&version), "interface version is {version}; this suite knows 1 and 2");
    ensure!(!fixture.service.getInterfaceHash()?.is_empty(), "the interface hash is empty");
    Ok(())
}

fn heaps_are_listed_by_descending_id(fixture: &Fixture) -> Result<()> {
    let heaps = fixture.service.listHeaps()?;
    ensure!((1..=interface::MAX_HEAPS).contains(&i32::try_from(heaps.len())?), "{} heaps", heaps.len());
    for (position, heap) in heaps.iter().enumerate() {
        ensure!((0..=31).contains(&heap.id), "id {} of heap {}", heap.id, heap.name);
        check_eq!(usize::try_from(heap.priority)?, position, "priority of heap {}", heap.name);
    }
    for pair in heaps.windows(2) {
        ensure!(pair[0].id > pair[1].id, "id {} is listed before {}", pair[0].id, pair[1].id);
    }
    Ok(())
}

fn heap_names_and_aliases_are_unique(fixture: &Fixture) -> Result<()> {
    let mut seen = HashSet::new();
    for heap in &fixture.heaps {
        for name in std::iter::once(&heap.name).chain(&heap.aliases) {
            ensure!((1..=31).contains(&name.len()), "{name:?} has {} bytes", name.len());
            ensure!(seen.insert(name), "{name:?} is given twice");
        }
    }
    Ok(())
}

fn heap_properties_make_sense(fixture: &Fixture) -> Result<()> {
    let defined_flags = HeapFlags::enum_values().iter().fold(0, |bits, flag| bits | flag.0);
    for heap in &fixture.heaps {
        let name = &heap.name;
        ensure!(HeapType::enum_values().contains(&heap.r#type), "{name}: type {:?}", heap.r#type);
        ensure!(Backing::enum_values().contains(&heap.backing), "{name}: backing {:?}", heap.backing);
        check_eq!(heap.flags & !defined_flags, 0, "{name}: flags that are not defined");
        check_eq!(
            heap.available,
            heap.unavailableReason.is_empty(),
            "{name}: available without a reason why not"
        );
        ensure!(
            ReleaseMechanism::enum_values().contains(&heap.releaseMechanism),
            "{name}: release mechanism {:?}",
            heap.releaseMechanism
        );
        ensure!(
            heap.available || heap.passedOver.is_empty(),
            "{name}: sources are skipped, but none serves it"
        );
        ensure!(heap.capacity >= 0, "{name}: capacity {}", heap.capacity);
        if !heap.available {
            continue;
        }
        ensure!(heap.granule > 0, "{name}: granule {}", heap.granule);
        ensure!(
            heap.maxAlignment > 0 && heap.maxAlignment.cast_unsigned().is_power_of_two(),
            "{name}: maximum alignment {}",
            heap.maxAlignment
        );
        ensure!(
            heap.flags & (HeapFlags::ZEROED.0 | HeapFlags::SECURE.0) != 0,
            "{name}: allocate promises zeroed buffers, but the heap does not"
        );
    }
    Ok(())
}

/// Returns two heaps that serve this uid, the one with the higher id first.
fn two_heaps(fixture: &Fixture) -> Result<(&HeapInfo, &HeapInfo)> {
    let mut usable = fixture.usable();
    match (usable.next(), usable.next()) {
        (Some(high), Some(low)) => Ok((high, low)),
        _ => inapplicable("needs two heaps that this uid can use"),
    }
}

fn mask_tries_the_highest_id_first(fixture: &Fixture) -> Result<()> {
    let (high, low) = two_heaps(fixture)?;
    let both = AllocationRequest { heapIdMask: 1 << high.id | 1 << low.id, ..from_any(1) };
    check_eq!(
        fixture.allocate_one(&both)?.heap_id,
        high.id,
        "heap of a mask with {} and {}",
        high.id,
        low.id
    );
    check_eq!(fixture.allocate_one(&from_heap(low.id, 1))?.heap_id, low.id, "heap of a mask with one bit");
    check_eq!(fixture.allocate_one(&from_any(1))?.heap_id, high.id, "heap of mask -1");
    Ok(())
}

fn names_are_tried_in_the_order_given(fixture: &Fixture) -> Result<()> {
    let (high, low) = two_heaps(fixture)?;
    for order in [[high, low], [low, high]] {
        let names = order.map(|heap| heap.name.as_str());
        let buffer = fixture.allocate_one(&from_names(&names, 1))?;
        check_eq!((buffer.heap_id, buffer.heap_name.as_str()), (order[0].id, names[0]), "heap of {names:?}");
    }
    Ok(())
}

fn alias_selects_its_heap(fixture: &Fixture) -> Result<()> {
    let mut tried = 0;
    for heap in fixture.usable() {
        for alias in &heap.aliases {
            let buffer = fixture.allocate_one(&from_names(&[alias], 1))?;
            check_eq!((buffer.heap_id, &buffer.heap_name), (heap.id, &heap.name), "heap of alias {alias}");
            tried += 1;
        }
    }
    if tried == 0 { inapplicable("no usable heap has an alias") } else { Ok(()) }
}

fn next_heap_serves_what_the_first_cannot(fixture: &Fixture) -> Result<()> {
    let larger = |heap: &HeapInfo, than: &HeapInfo| heap.capacity == 0 || heap.capacity > than.capacity;
    let pair = fixture.usable().find_map(|first| {
        let second = fixture.usable().find(|second| first.capacity > 0 && larger(second, first))?;
        Some((first, second))
    });
    let Some((first, second)) = pair else {
        return inapplicable("needs a usable heap that is smaller than another");
    };
    let size = first.capacity + 1;
    fixture.require_quota(1, size + second.granule)?;
    let buffer = fixture.allocate_one(&from_names(&[&first.name, &second.name], size))?;
    check_eq!(buffer.heap_name, second.name, "heap of {size} bytes, which {} cannot hold", first.name);
    Ok(())
}

fn heap_that_does_not_exist_is_unknown(fixture: &Fixture) -> Result<()> {
    let name = "no-such-heap";
    let error = fixture.refused(&from_names(&[name], 4096), &[ErrorCode::UNKNOWN_HEAP])?;
    ensure!(error.message.contains(name), "the message does not name {name}: {}", error.message);
    let taken = fixture.heaps.iter().fold(0, |mask, heap| mask | 1 << heap.id);
    if taken == -1_i32 {
        return inapplicable("every id has a heap");
    }
    let absent = AllocationRequest { heapIdMask: !taken, ..from_any(4096) };
    fixture.refused(&absent, &[ErrorCode::UNKNOWN_HEAP])?;
    Ok(())
}

fn unknown_heaps_beside_a_known_one_are_passed_over(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let buffer = fixture.allocate_one(&from_names(&["no-such-heap", &heap.name], 1))?;
    check_eq!(buffer.heap_name, heap.name, "heap");
    let taken = fixture.heaps.iter().fold(0, |mask, heap| mask | 1 << heap.id);
    let request = AllocationRequest { heapIdMask: !taken | 1 << heap.id, ..from_any(1) };
    check_eq!(fixture.allocate_one(&request)?.heap_id, heap.id, "heap");
    Ok(())
}

fn heaps_are_selected_by_exactly_one_of_mask_and_names(fixture: &Fixture) -> Result<()> {
    let name = &fixture.roomy()?.name;
    let both = AllocationRequest { heapIdMask: -1, ..from_names(&[name], 4096) };
    let neither = AllocationRequest { heapIdMask: 0, ..from_any(4096) };
    for request in [both, neither] {
        let message = fixture.refused(&request, &[ErrorCode::BAD_REQUEST])?.message;
        for field in ["heapIdMask", "heapNames"] {
            ensure!(message.contains(field), "the message does not name {field}: {message}");
        }
    }
    Ok(())
}

fn more_than_32_heap_names_are_refused(fixture: &Fixture) -> Result<()> {
    let mut names = vec!["no-such-heap"; 31];
    names.push(&fixture.roomy()?.name);
    fixture.allocate_one(&from_names(&names, 1))?;
    names.insert(0, "no-such-heap");
    let message = fixture.refused(&from_names(&names, 1), &[ErrorCode::BAD_REQUEST])?.message;
    for part in ["heapNames", "33", "32"] {
        ensure!(message.contains(part), "the message does not contain {part}: {message}");
    }
    Ok(())
}

fn unavailable_heap_is_unsupported(fixture: &Fixture) -> Result<()> {
    let unavailable: Vec<_> = fixture.heaps.iter().filter(|heap| !heap.available).collect();
    for heap in &unavailable {
        fixture.refused(&from_heap(heap.id, 4096), &[ErrorCode::UNSUPPORTED])?;
        fixture.refused(&from_names(&[&heap.name], 4096), &[ErrorCode::UNSUPPORTED])?;
    }
    if unavailable.is_empty() { inapplicable("every configured heap is available") } else { Ok(()) }
}

fn closed_heap_is_not_permitted(fixture: &Fixture) -> Result<()> {
    let is_open = |heap: &HeapInfo| fixture.usable().any(|open| open.id == heap.id);
    let closed: Vec<_> = fixture.heaps.iter().filter(|heap| heap.available && !is_open(heap)).collect();
    for heap in &closed {
        fixture.refused(&from_heap(heap.id, 4096), &[ErrorCode::NOT_PERMITTED])?;
        fixture.refused(&from_names(&[&heap.name], 4096), &[ErrorCode::NOT_PERMITTED])?;
    }
    if closed.is_empty() { inapplicable("every available heap is open to this uid") } else { Ok(()) }
}

fn dma_buf_is_required_of_the_heap(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let request = AllocationRequest { requireDmaBuf: true, ..from_heap(heap.id, 1) };
        if [Backing::UDMABUF, Backing::DMA_HEAP, Backing::ION].contains(&heap.backing) {
            check_eq!(fixture.allocate_one(&request)?.backing, heap.backing, "backing");
        } else {
            fixture.refused(&request, &[ErrorCode::UNSUPPORTED])?;
        }
    }
    Ok(())
}

fn cached_mapping_is_required_of_the_heap(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let request = AllocationRequest { flags: AllocationFlags::CACHED.0, ..from_heap(heap.id, 1) };
        if heap.flags & HeapFlags::CACHED.0 != 0 {
            fixture.allocate_one(&request)?;
        } else {
            fixture.refused(&request, &[ErrorCode::UNSUPPORTED])?;
        }
    }
    Ok(())
}
