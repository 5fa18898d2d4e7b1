// SPDX-License-Identifier: Apache-2.0
//! A client of the service and of the bare server.

use crate::raw::{self, Question};
use crate::servers::Servers;
use anion_ipc::Connection;
use anion_memory::Access;
use anion_memory::map::SharedMap;
use anyhow::Context;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    AllocationFlags::AllocationFlags, AllocationRequest::AllocationRequest, HeapStats::HeapStats,
    IHeapAllocator::IHeapAllocator,
};

/// The origin of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The bare server creates a memfd.
    Bare,
    /// The bare server opens its only memfd again: the least cost of a pool hit.
    Reopened,
    /// The service creates a memfd: its heap has no pool.
    Fresh,
    /// The service's heap with a pool.
    Pooled,
    /// The same for a client that needs no zeroed memory.
    Unzeroed,
}

/// A client with a connection to each server.
pub(crate) struct Client {
    connection: Connection<dyn IHeapAllocator>,
    raw: UnixStream,
}

impl Client {
    /// Connects to both servers.
    pub(crate) fn new(servers: &Servers) -> anyhow::Result<Self> {
        Ok(Self { connection: servers.connect()?, raw: servers.connect_raw()? })
    }

    /// Returns the service.
    pub(crate) fn service(&self) -> &dyn IHeapAllocator {
        self.connection.service.as_ref()
    }

    /// Returns `count` buffers of one exchange; at most 16 of the bare server.
    pub(crate) fn many(&self, origin: Origin, bytes: u64, count: u64) -> anyhow::Result<Vec<OwnedFd>> {
        let of_heap = |heap, flags| allocate(self.service(), heap, bytes, i32::try_from(count)?, flags);
        match origin {
            Origin::Bare => raw::ask(&self.raw, Question { bytes, count }),
            Origin::Reopened => raw::ask(&self.raw, Question { bytes: 0, count }),
            Origin::Fresh => of_heap("fresh", 0),
            Origin::Pooled => of_heap("pooled", 0),
            Origin::Unzeroed => of_heap("pooled", AllocationFlags::UNZEROED.0),
        }
    }

    /// Returns one buffer.
    pub(crate) fn one(&self, origin: Origin, bytes: u64) -> anyhow::Result<OwnedFd> {
        self.many(origin, bytes, 1)?.pop().context("the reply has no buffer")
    }

    /// Returns one buffer, mapped, with every page touched, as a client does before its first use.
    pub(crate) fn ready(&self, origin: Origin, bytes: u64) -> anyhow::Result<(OwnedFd, SharedMap)> {
        touch(self.one(origin, bytes)?, bytes)
    }

    /// Returns the counters of the heap with a pool.
    pub(crate) fn stats(&self) -> anyhow::Result<HeapStats> {
        heap_stats(self.service(), "pooled")
    }

    /// Waits until all released memory is clean.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        while self.stats()?.numOfBuffers > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Empties the pool, which removes buffers of earlier measurements. Returns the bytes that the
    /// kernel got back.
    pub(crate) fn empty(&self) -> anyhow::Result<u64> {
        let returned = self.service().trim("pooled", 0).map_err(|status| anyhow::anyhow!("{status}"))?;
        Ok(returned.try_into()?)
    }

    /// Fills the pool with `count` clean buffers of this size, which it writes first, since
    /// untouched ones are not pooled. Waits while memory is scarce, when the service pools nothing.
    /// The pool must be empty, or have buffers of this size only.
    pub(crate) fn warm(&self, bytes: u64, count: u64) -> anyhow::Result<()> {
        self.settle()?;
        while u64::try_from(self.stats()?.pooledBytes)? < bytes * count {
            let held = self.many(Origin::Pooled, bytes, count)?.into_iter().map(|fd| touch(fd, bytes));
            held.collect::<anyhow::Result<Vec<_>>>()?;
            self.settle()?;
        }
        Ok(())
    }
}

/// Allocates buffers of one heap from a service.
pub(crate) fn allocate(
    service: &dyn IHeapAllocator,
    heap: &str,
    bytes: u64,
    count: i32,
    flags: i32,
) -> anyhow::Result<Vec<OwnedFd>> {
    let size = i64::try_from(bytes)?;
    let heap_names = vec![heap.to_owned()];
    let request = AllocationRequest { size, count, flags, heapNames: heap_names, ..Default::default() };
    let allocation = service.allocate(&request).map_err(|status| anyhow::anyhow!("{status}"))?;
    let fds = allocation.buffers.into_iter().filter_map(|buffer| buffer.fd).map(OwnedFd::from);
    Ok(fds.collect())
}

/// Returns a heap's counters.
pub(crate) fn heap_stats(service: &dyn IHeapAllocator, name: &str) -> anyhow::Result<HeapStats> {
    let stats = service.getStats().map_err(|status| anyhow::anyhow!("{status}"))?;
    stats
        .into_iter()
        .find(|heap| heap.heapName == name)
        .with_context(|| format!("the service has no heap {name}"))
}

/// Maps a buffer.
pub(crate) fn map(fd: &OwnedFd, bytes: u64) -> anyhow::Result<SharedMap> {
    Ok(SharedMap::new(fd, usize::try_from(bytes)?, Access::ReadWrite)?)
}

/// Maps a buffer and touches every page.
pub(crate) fn touch(fd: OwnedFd, bytes: u64) -> anyhow::Result<(OwnedFd, SharedMap)> {
    let page = usize::try_from(anion::testing::page_size()?.bytes())?;
    let map = map(&fd, bytes)?;
    for offset in (0..map.len()).step_by(page) {
        map.write_at(offset, &[1])?;
    }
    Ok((fd, map))
}
