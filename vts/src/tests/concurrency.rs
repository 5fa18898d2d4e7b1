// SPDX-License-Identifier: Apache-2.0
//! Tests concurrent callers.

use crate::harness::{Fixture, Service};
use crate::outcome::{check_eq, tests};
use crate::request::aidl::AllocationRequest;
use crate::request::{from_heap, held};
use crate::sys::Mapping;
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::HashSet;
use std::thread;

tests![
    Shared hundred_threads_have_buffers_of_their_own,
    Shared every_method_can_be_called_at_once,
    Shared connections_see_the_same_service,
    Quiet connections_come_and_go,
];

const THREADS: u64 = 100;
const ROUNDS: u64 = 4;

/// Runs `work` in `threads` threads and returns the results, or the first failure.
fn in_threads<T: Send>(threads: u64, work: impl Fn(u64) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    })
}

/// Allocates, marks every word, yields to other threads, and checks the marks.
fn own_buffer(service: &Service, request: &AllocationRequest, mark: u64) -> Result<i64> {
    let buffer = held(service.allocate(request)?)?.pop().context("an empty reply")?;
    let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
    check_eq!(mapping.first_other_than(0), None, "first word that is not zero in buffer {}", buffer.id);
    mapping.fill(mark);
    thread::yield_now();
    check_eq!(
        mapping.first_other_than(mark),
        None,
        "first word that another wrote into buffer {}",
        buffer.id
    );
    Ok(buffer.id)
}

fn hundred_threads_have_buffers_of_their_own(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    fixture.require_quota(100, 100 * heap.granule.max(16 << 10))?;
    let request = from_heap(heap.id, 16 << 10);
    let ids = in_threads(THREADS, |thread| {
        (0..ROUNDS).map(|round| own_buffer(&fixture.service, &request, thread * ROUNDS + round + 1)).collect()
    })?;
    let ids: Vec<i64> = ids.into_iter().flat_map(|ids: Vec<i64>| ids).collect();
    let distinct: HashSet<_> = ids.iter().collect();
    check_eq!(distinct.len(), ids.len(), "distinct ids");
    Ok(())
}

fn every_method_can_be_called_at_once(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    fixture.require_quota(8, 8 * heap.granule)?;
    let request = from_heap(heap.id, 1);
    in_threads(8, |thread| {
        for _ in 0..10 {
            let buffer = fixture.allocate_one(&request)?;
            let info = fixture.service.describe(&ParcelFileDescriptor::new(buffer.fd.try_clone()?))?;
            check_eq!(info.id, buffer.id, "id");
            ensure!(fixture.service.explain(&request)?.possible, "the dry run says it is impossible");
            check_eq!(fixture.service.getStats()?.len(), fixture.heaps.len(), "heaps in getStats");
            ensure!(fixture.usage()?.buffers >= 1, "the ledger lost a held buffer");
            // In one thread only: the service may refuse several dumps for one uid at the same
            // time.
            if thread == 0 {
                let (_reader, writer) = std::io::pipe()?;
                fixture.service.dumpTo(
                    &ParcelFileDescriptor::new(std::os::fd::OwnedFd::from(writer)),
                    &["--help".to_owned()],
                )?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn connections_see_the_same_service(fixture: &Fixture) -> Result<()> {
    let other = fixture.connect()?;
    let heap = fixture.roomy()?;
    let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
    let info = other.service.describe(&ParcelFileDescriptor::new(buffer.fd.try_clone()?))?;
    check_eq!(info.id, buffer.id, "id by another connection");
    Ok(())
}

fn connections_come_and_go(fixture: &Fixture) -> Result<()> {
    let request = from_heap(fixture.roomy()?.id, 1);
    for round in 0..16 {
        let connection = fixture.connect().with_context(|| format!("connection {round}"))?;
        let _released_after_the_connection = held(connection.service.allocate(&request)?)?;
    }
    fixture.await_holding(0, 0)
}
