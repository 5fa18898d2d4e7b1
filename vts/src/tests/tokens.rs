// SPDX-License-Identifier: Apache-2.0
//! Tests buffers whose release the kernel does not report: the owner is charged until it drops
//! their token or exits, even if other processes have descriptors and mappings.

use crate::child::ChildProcess;
use crate::harness::{Fixture, is_reported};
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode, HeapInfo, IBufferToken};
use crate::request::{from_any, from_heap};
use crate::sys::Mapping;
use anion_ipc::{ParcelFileDescriptor, Strong};
use anyhow::{Context, Result, ensure};

tests![
    Shared token_comes_where_releases_are_not_reported_and_nowhere_else,
    Shared token_releases_only_its_own_buffers,
    Quiet token_holds_though_all_descriptors_are_closed,
    Quiet token_releases_buffers_one_by_one,
    Quiet dropping_the_token_releases,
    Quiet death_of_the_owner_releases_what_a_token_holds,
    Quiet memory_of_a_released_token_stays_with_its_holders,
];

/// Returns a heap whose releases the kernel does not report.
fn silent(fixture: &Fixture) -> Result<&HeapInfo> {
    let found = fixture.usable().find(|heap| !is_reported(heap));
    found.map_or_else(|| inapplicable("the kernel reports the releases of every heap here"), Ok)
}

/// Ids, descriptors and token of `count` buffers.
struct Owned {
    ids: Vec<i64>,
    fds: Vec<ParcelFileDescriptor>,
    token: Strong<dyn IBufferToken>,
    bytes: i64,
}

fn own(fixture: &Fixture, count: i32) -> Result<Owned> {
    let request = AllocationRequest { count, ..from_heap(silent(fixture)?.id, 1) };
    let allocation = fixture.service.allocate(&request)?;
    let ids = allocation.buffers.iter().map(|buffer| buffer.id).collect();
    let bytes = allocation.buffers.iter().map(|buffer| buffer.size).sum();
    let fds: Option<Vec<_>> = allocation.buffers.into_iter().map(|buffer| buffer.fd).collect();
    let token = allocation.token.context("no token")?;
    Ok(Owned { ids, fds: fds.context("a buffer without a descriptor")?, token, bytes })
}

fn token_comes_where_releases_are_not_reported_and_nowhere_else(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let allocation = fixture.service.allocate(&from_heap(heap.id, 1))?;
        check_eq!(allocation.token.is_none(), is_reported(heap), "no token from heap {}", heap.name);
    }
    Ok(())
}

fn token_releases_only_its_own_buffers(fixture: &Fixture) -> Result<()> {
    let owned = own(fixture, 2)?;
    let other = fixture.allocate_one(&from_any(1))?;
    for foreign in [other.id, -1, 0] {
        let refused = expect_error(owned.token.release(&[owned.ids[0], foreign]), &[ErrorCode::BAD_REQUEST])?;
        ensure!(refused.message.contains("ids"), "the message does not name ids: {}", refused.message);
    }
    for fd in owned.fds {
        fixture.service.describe(&fd).context("a buffer whose release was refused")?;
    }
    Ok(())
}

fn token_holds_though_all_descriptors_are_closed(fixture: &Fixture) -> Result<()> {
    let Owned { fds, token, bytes, .. } = own(fixture, 2)?;
    drop(fds);
    fixture.stays_holding(bytes, 2, "only the token is left")?;
    token.release(&[])?;
    fixture.await_holding(0, 0)
}

fn token_releases_buffers_one_by_one(fixture: &Fixture) -> Result<()> {
    let owned = own(fixture, 4)?;
    let each = owned.bytes / 4;
    owned.token.release(&owned.ids[1..2])?;
    // At once: the call returns after the ledger is updated.
    check_eq!(fixture.holding()?, (3 * each, 3), "bytes and buffers after one was given up");
    owned.token.release(&owned.ids[..2])?;
    check_eq!(fixture.holding()?, (2 * each, 2), "bytes and buffers after another was given up");
    owned.token.release(&[])?;
    check_eq!(fixture.holding()?, (0, 0), "bytes and buffers after all were given up");
    Ok(owned.token.release(&owned.ids)?)
}

fn dropping_the_token_releases(fixture: &Fixture) -> Result<()> {
    let Owned { fds, token, bytes, .. } = own(fixture, 3)?;
    fixture.stays_holding(bytes, 3, "the token is held")?;
    drop(token);
    fixture.await_holding(0, 0).context("after the last reference to the token was dropped")?;
    drop(fds);
    Ok(())
}

fn death_of_the_owner_releases_what_a_token_holds(fixture: &Fixture) -> Result<()> {
    let heap = silent(fixture)?;
    let target = fixture.target.to_string();
    let (id, size, word) = (heap.id.to_string(), heap.granule.to_string(), "1");
    let child = ChildProcess::start("spread", &[&target, &id, &size, "3", word], None)?;
    fixture.stays_holding(3 * heap.granule, 3, "the owner lives")?;
    child.kill()?;
    fixture.await_holding(0, 0)
}

fn memory_of_a_released_token_stays_with_its_holders(fixture: &Fixture) -> Result<()> {
    const LEFT: u64 = 0x1ef7_1ef7_1ef7_1ef7;
    let heap = silent(fixture)?;
    let owned = own(fixture, 1)?;
    let bytes = u64::try_from(owned.bytes)?;
    let fd: &std::os::fd::OwnedFd = owned.fds[0].as_ref();
    let mapping = Mapping::writable(fd, bytes)?;
    mapping.fill(LEFT);
    owned.token.release(&[])?;
    expect_error(fixture.service.describe(&owned.fds[0]), &[ErrorCode::NOT_OURS])
        .context("after it was given up")?;
    for _ in 0..8 {
        let next = fixture.allocate_one(&from_heap(heap.id, owned.bytes))?;
        let other = Mapping::writable(&next.fd, next.size)?;
        check_eq!(other.first_other_than(0), None, "first word of the next buffer that is not zero");
        other.fill(!LEFT);
    }
    check_eq!(mapping.first_other_than(LEFT), None, "first word that somebody else changed");
    Ok(())
}
