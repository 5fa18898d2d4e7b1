// SPDX-License-Identifier: Apache-2.0
//! Tests reservations: their buffers are charged once, drawn without another charge, and made again
//! after their release. A reservation ends with its object, and with its client.

use crate::child::ChildProcess;
use crate::harness::{Fixture, RELEASE_DEADLINE};
use crate::outcome::{check_eq, expect_error, tests};
use crate::request::aidl::{
    AllocationRequest, ErrorCode, HeapInfo, IReservation, ReservationRequest, interface,
};
use crate::request::from_heap;
use crate::sys::Mapping;
use anion_ipc::Strong;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

tests![
    Quiet reserved_buffers_are_charged_and_become_ready,
    Quiet reserved_buffers_are_drawn_and_made_again,
    Quiet drawn_buffers_outlive_the_reservation,
    Quiet dropping_the_reservation_gives_it_back,
    Quiet disconnecting_gives_the_reservation_back,
    Quiet killing_the_client_gives_its_reservation_back,
    Quiet reservations_of_one_uid_are_limited,
    Shared malformed_reservations_are_refused,
    Shared reservation_from_no_heap_is_unknown,
];

/// Large enough to be pooled on any machine.
const SIZE: i64 = 256 << 10;

fn request(heap: &HeapInfo, count: i32) -> ReservationRequest {
    ReservationRequest { size: SIZE, count, heapName: heap.name.clone() }
}

/// Returns the bytes of one buffer of [`SIZE`].
fn rounded(heap: &HeapInfo) -> i64 {
    SIZE.cast_unsigned().next_multiple_of(heap.granule.cast_unsigned()).cast_signed()
}

fn reserve(fixture: &Fixture, heap: &HeapInfo, count: i32) -> Result<Strong<dyn IReservation>> {
    fixture.require_quota(i64::from(count), i64::from(count) * rounded(heap))?;
    fixture.service.reserve(&request(heap, count)).with_context(|| format!("reserving from {}", heap.name))
}

fn await_ready(reservation: &Strong<dyn IReservation>, count: i32) -> Result<()> {
    let start = Instant::now();
    while reservation.ready()? != count {
        ensure!(start.elapsed() < RELEASE_DEADLINE, "{} of {count} buffers are ready", reservation.ready()?);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

fn await_reserved(fixture: &Fixture, bytes: i64) -> Result<()> {
    let start = Instant::now();
    while fixture.usage()?.reservedBytes != bytes {
        ensure!(start.elapsed() < RELEASE_DEADLINE, "not {bytes} bytes reserved: {:?}", fixture.usage()?);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

fn reserved_buffers_are_charged_and_become_ready(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let reservation = reserve(fixture, heap, 4)?;
    // At once, even if not made yet.
    check_eq!(fixture.usage()?.reservedBytes, 4 * rounded(heap), "bytes reserved after the call");
    check_eq!(fixture.holding()?, (0, 0), "bytes and buffers held");
    await_ready(&reservation, 4)?;
    let stats = fixture.service.getStats()?;
    let stats = stats.iter().find(|stats| stats.heapId == heap.id).context("statistics of the heap")?;
    ensure!(stats.reservedBytes >= 4 * rounded(heap), "not in the statistics: {stats:?}");
    reservation.release()?;
    check_eq!(reservation.ready()?, 0, "ready after the release");
    check_eq!(fixture.usage()?.reservedBytes, 0, "bytes reserved after the release");
    reservation.release().context("a second release")
}

fn reserved_buffers_are_drawn_and_made_again(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let reservation = reserve(fixture, heap, 4)?;
    for _ in 0..3 {
        await_ready(&reservation, 4)?;
        let buffers = fixture.allocate(&AllocationRequest { count: 4, ..from_heap(heap.id, SIZE) })?;
        check_eq!(fixture.usage()?.reservedBytes, 0, "bytes reserved while all are drawn");
        check_eq!(fixture.holding()?, (4 * rounded(heap), 4), "bytes and buffers held");
        for buffer in &buffers {
            let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
            check_eq!(mapping.first_other_than(0), None, "first word of a drawn buffer that is not zero");
            mapping.fill(0xfeed);
        }
        drop(buffers);
        fixture.await_holding(0, 0)?;
    }
    await_ready(&reservation, 4)
}

fn drawn_buffers_outlive_the_reservation(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let reservation = reserve(fixture, heap, 2)?;
    await_ready(&reservation, 2)?;
    let buffer = fixture.allocate_one(&from_heap(heap.id, SIZE))?;
    drop(reservation);
    await_reserved(fixture, 0)?;
    fixture.stays_holding(rounded(heap), 1, "a drawn buffer is held and its reservation is gone")?;
    drop(buffer);
    fixture.await_holding(0, 0)
}

fn dropping_the_reservation_gives_it_back(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let reservation = reserve(fixture, heap, 2)?;
    check_eq!(fixture.usage()?.reservedBytes, 2 * rounded(heap), "bytes reserved");
    drop(reservation);
    await_reserved(fixture, 0)
}

/// Over kernel binder there is no connection of its own, but the reference is dropped in the same
/// way.
fn disconnecting_gives_the_reservation_back(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let connection = fixture.connect()?;
    let reservation = connection.service.reserve(&request(heap, 2))?;
    check_eq!(fixture.usage()?.reservedBytes, 2 * rounded(heap), "bytes reserved");
    drop((reservation, connection));
    await_reserved(fixture, 0)
}

fn killing_the_client_gives_its_reservation_back(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let endpoint = fixture.target.to_string();
    let child = ChildProcess::start("reserve", &[&endpoint, &heap.name, "3", &SIZE.to_string()], None)?;
    check_eq!(fixture.usage()?.reservedBytes, 3 * rounded(heap), "bytes reserved by the child");
    child.kill()?;
    await_reserved(fixture, 0)
}

fn reservations_of_one_uid_are_limited(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let mut kept = Vec::new();
    for _ in 0..interface::MAX_RESERVATIONS {
        kept.push(reserve(fixture, heap, 1)?);
    }
    let refused = expect_error(fixture.service.reserve(&request(heap, 1)), &[ErrorCode::QUOTA_EXCEEDED])?;
    let limit = interface::MAX_RESERVATIONS.to_string();
    ensure!(refused.message.contains(&limit), "the message does not name the limit of {limit}: {refused}");
    drop(kept);
    await_reserved(fixture, 0)
}

fn malformed_reservations_are_refused(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    for (size, count) in [(0, 1), (-1, 1), (i64::MIN, 1), (SIZE, 0), (SIZE, -1), (SIZE, 65)] {
        let request = ReservationRequest { size, count, heapName: heap.name.clone() };
        expect_error(fixture.service.reserve(&request), &[ErrorCode::BAD_REQUEST])
            .with_context(|| format!("{request:?}"))?;
    }
    Ok(())
}

fn reservation_from_no_heap_is_unknown(fixture: &Fixture) -> Result<()> {
    for name in ["", "no-such-heap"] {
        let request = ReservationRequest { size: SIZE, count: 1, heapName: name.to_owned() };
        expect_error(fixture.service.reserve(&request), &[ErrorCode::UNKNOWN_HEAP])?;
    }
    Ok(())
}
