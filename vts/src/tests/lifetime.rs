// SPDX-License-Identifier: Apache-2.0
//! Tests when a buffer is accounted and when it is released. Descriptors, descriptors in messages,
//! and mappings hold it, in any process, and nothing else does. There is no call to free. Heaps
//! whose releases the kernel does not report have other tests (`tokens.rs`).

use crate::child::ChildProcess;
use crate::harness::{Fixture, is_reported};
use crate::outcome::{check_eq, tests};
use crate::request::aidl::{Access, AllocationRequest};
use crate::request::{Held, from_any, from_heap};
use crate::sys::{Mapping, receive_descriptor, send_descriptor};
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

tests![
    Quiet usage_counts_what_is_held,
    Quiet closing_releases,
    Quiet mapping_holds,
    Quiet duplicate_holds,
    Quiet descriptor_in_flight_holds,
    Quiet inherited_descriptor_holds,
    Quiet mapping_of_another_process_holds,
    Quiet read_only_buffer_is_held_and_released,
    Quiet closing_a_path_descriptor_releases_nothing,
    Quiet part_of_a_batch_is_released_alone,
    Quiet exit_without_close_releases,
    Quiet kill_releases,
    Quiet kill_in_the_middle_of_calls_releases,
    Quiet disconnecting_does_not_release,
    Quiet descriptor_outlives_its_owner,
];

/// Returns the accounted bytes and number of `buffers`.
fn cost(buffers: &[Held]) -> Result<(i64, i64)> {
    let bytes: u64 = buffers.iter().map(|buffer| buffer.size).sum();
    Ok((i64::try_from(bytes)?, i64::try_from(buffers.len())?))
}

/// Allocates one buffer of every usable heap.
fn one_of_each(fixture: &Fixture) -> Result<Vec<Held>> {
    fixture.usable().map(|heap| fixture.allocate_one(&from_heap(heap.id, 1))).collect()
}

fn usage_counts_what_is_held(fixture: &Fixture) -> Result<()> {
    let mut buffers = Vec::new();
    for heap in fixture.usable() {
        buffers.extend(
            fixture.allocate(&AllocationRequest { count: 3, ..from_heap(heap.id, heap.granule + 1) })?,
        );
        // At once: the ledger is updated before the reply.
        check_eq!(fixture.holding()?, cost(&buffers)?, "bytes and buffers after heap {}", heap.name);
    }
    Ok(())
}

fn closing_releases(fixture: &Fixture) -> Result<()> {
    let mut buffers = one_of_each(fixture)?;
    while let Some(buffer) = buffers.pop() {
        let heap = buffer.heap_name.clone();
        drop(buffer);
        let (bytes, count) = cost(&buffers)?;
        fixture
            .await_holding(bytes, count)
            .with_context(|| format!("after closing a buffer of heap {heap}"))?;
    }
    Ok(())
}

/// Checks that the result of `transform` holds `buffer`, and that the buffer is released when the
/// result is dropped.
fn held_by<T>(
    fixture: &Fixture,
    buffer: Held,
    why: &str,
    transform: impl FnOnce(Held) -> Result<T>,
) -> Result<()> {
    let heap = buffer.heap_name.clone();
    let (bytes, buffers) = cost(std::slice::from_ref(&buffer))?;
    let holder = transform(buffer)?;
    fixture.stays_holding(bytes, buffers, why).with_context(|| format!("heap {heap}"))?;
    drop(holder);
    fixture.await_holding(0, 0).with_context(|| format!("heap {heap}, when it was no longer true that {why}"))
}

fn mapping_holds(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()?.into_iter().filter(|heap| is_reported(heap)) {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "only a writable mapping is left", |held| {
            Ok(Mapping::writable(&held.fd, held.size)?)
        })?;
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "only a read-only mapping is left", |held| {
            Ok(Mapping::read_only(&held.fd, held.size)?)
        })?;
    }
    Ok(())
}

fn duplicate_holds(fixture: &Fixture) -> Result<()> {
    for heap in fixture.reported() {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "only a duplicate is left", |held| Ok(held.fd.try_clone()?))?;
    }
    Ok(())
}

fn descriptor_in_flight_holds(fixture: &Fixture) -> Result<()> {
    for heap in fixture.reported() {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "the descriptor waits in a socket's queue", |held| {
            let (here, there) = UnixStream::pair()?;
            send_descriptor(&here, &held.fd)?;
            Ok((here, there))
        })?;
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "the descriptor has been passed on", |held| {
            let (here, there) = UnixStream::pair()?;
            send_descriptor(&here, &held.fd)?;
            Ok(receive_descriptor(&there)?)
        })?;
    }
    Ok(())
}

fn inherited_descriptor_holds(fixture: &Fixture) -> Result<()> {
    for heap in fixture.reported() {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "only a child has the descriptor", |held| {
            ChildProcess::start("inherit", &[], Some(held.fd))
        })?;
    }
    Ok(())
}

fn mapping_of_another_process_holds(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()?.into_iter().filter(|heap| is_reported(heap)) {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        held_by(fixture, buffer, "only a child has a mapping", |held| {
            ChildProcess::start("map", &[&held.size.to_string()], Some(held.fd))
        })?;
    }
    Ok(())
}

fn read_only_buffer_is_held_and_released(fixture: &Fixture) -> Result<()> {
    for heap in fixture.with_read_only()?.into_iter().filter(|heap| is_reported(heap)) {
        let request = AllocationRequest { access: Access::READ_ONLY, ..from_heap(heap.id, 1) };
        let buffer = fixture.allocate_one(&request)?;
        held_by(fixture, buffer, "only a mapping of a read-only buffer is left", |held| {
            Ok(Mapping::read_only(&held.fd, held.size)?)
        })?;
    }
    Ok(())
}

fn part_of_a_batch_is_released_alone(fixture: &Fixture) -> Result<()> {
    let mut buffers = fixture.allocate(&AllocationRequest { count: 8, ..from_any(1) })?;
    for keep in [7, 3, 1] {
        buffers.truncate(keep);
        let (bytes, count) = cost(&buffers)?;
        fixture.await_holding(bytes, count)?;
        fixture.stays_holding(bytes, count, "part of a batch was closed")?;
    }
    Ok(())
}

fn exit_without_close_releases(fixture: &Fixture) -> Result<()> {
    let child = ChildProcess::start("exit", &[&fixture.target.to_string(), "4", "65536"], None)?;
    child.finish()?;
    fixture.await_holding(0, 0)
}

fn kill_releases(fixture: &Fixture) -> Result<()> {
    let own = fixture.allocate(&AllocationRequest { count: 2, ..from_any(1) })?;
    let (bytes, count) = cost(&own)?;
    let child = ChildProcess::start("hold", &[&fixture.target.to_string(), "4", "65536"], None)?;
    let (with_child, buffers) = fixture.holding()?;
    check_eq!(buffers, count + 4, "buffers held with the child's");
    ensure!(with_child >= bytes + 4 * 65536, "{with_child} bytes are held with the child's, {bytes} without");
    child.kill()?;
    fixture.await_holding(bytes, count)
}

/// Some of these kills occur while a reply with descriptors is on its way.
fn kill_in_the_middle_of_calls_releases(fixture: &Fixture) -> Result<()> {
    fixture.require_quota(16, 16 * 65536)?;
    for milliseconds in [0, 3, 7, 20, 50] {
        let child = ChildProcess::start("churn", &[&fixture.target.to_string(), "65536"], None)?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill()?;
        fixture.await_holding(0, 0).with_context(|| format!("killed after {milliseconds} ms"))?;
    }
    Ok(())
}

fn disconnecting_does_not_release(fixture: &Fixture) -> Result<()> {
    let connection = fixture.connect()?;
    let buffers = crate::request::held(connection.service.allocate(&from_any(1))?)?;
    drop(connection);
    let (bytes, count) = cost(&buffers)?;
    fixture.stays_holding(bytes, count, "the connection that allocated the buffer is closed")?;
    for buffer in &buffers {
        let info = fixture.service.describe(&ParcelFileDescriptor::new(buffer.fd.try_clone()?))?;
        check_eq!(info.id, buffer.id, "id after the connection was closed");
    }
    drop(buffers);
    fixture.await_holding(0, 0)
}

/// The buffer of a killed process lives on in the process that received it.
fn descriptor_outlives_its_owner(fixture: &Fixture) -> Result<()> {
    let (here, there) = UnixStream::pair()?;
    let child = ChildProcess::start("lend", &[&fixture.target.to_string(), "65536"], Some(there.into()))?;
    let lent = receive_descriptor(&here)?;
    let owner = child.pid();
    child.kill()?;
    let info = fixture.service.describe(&ParcelFileDescriptor::new(lent.try_clone()?))?;
    check_eq!(info.ownerPid.cast_unsigned(), owner, "owner of a buffer whose owner is dead");
    fixture.stays_holding(info.size, 1, "another process has the buffer of a dead one")?;
    drop(lent);
    fixture.await_holding(0, 0)
}

/// An `O_PATH` descriptor does not hold the buffer, and its close must not be taken for the
/// buffer's.
fn closing_a_path_descriptor_releases_nothing(fixture: &Fixture) -> Result<()> {
    let buffers = one_of_each(fixture)?;
    for buffer in &buffers {
        let path = format!("/proc/self/fd/{}", buffer.fd.as_raw_fd());
        drop(open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?);
    }
    let (bytes, count) = cost(&buffers)?;
    std::thread::sleep(Duration::from_millis(600));
    check_eq!(fixture.holding()?, (bytes, count), "bytes and buffers after O_PATH descriptors were closed");
    drop(buffers);
    fixture.await_holding(0, 0)
}
