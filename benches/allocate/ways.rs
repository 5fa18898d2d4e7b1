// SPDX-License-Identifier: Apache-2.0
//! Reaches the same heaps through a service, and within this process without a transport.

use crate::client::{allocate, heap_stats};
use crate::servers::Service;
use anion::testing::{
    Allocator, Caller, Count, Label, Needs, Request, RequestedBytes, Selection, Uid, WatchedCgroup, load,
    page_size,
};
use anion_ipc::Connection;
use anion_memory::Access;
use anyhow::{Context, ensure};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Heaps, and a way to call them.
pub(crate) trait Way {
    /// Returns a description of the transport.
    fn words(&self) -> String;

    /// Returns every heap, with the cause if it is unavailable.
    fn heaps(&self) -> anyhow::Result<Vec<(String, Option<String>)>>;

    /// Allocates `count` buffers of one heap, in one call.
    fn allocate(&self, heap: &str, bytes: u64, count: usize) -> anyhow::Result<Vec<OwnedFd>>;

    /// Returns the counters of a heap.
    fn counts(&self, heap: &str) -> anyhow::Result<Counts>;

    /// Returns all pooled memory to the kernel.
    fn trim(&self) -> anyhow::Result<()>;

    /// Makes the smallest call of a transport; returns `false` if there is none.
    fn ask(&self) -> anyhow::Result<bool>;
}

/// The counters of a heap.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Buffers that are not yet free and clean.
    pub(crate) buffers: u64,
    /// Pool hits so far.
    pub(crate) hits: u64,
    /// New buffers so far that a pool could have supplied.
    pub(crate) misses: u64,
}

/// A service of its own, over its transport.
pub(crate) struct Served {
    connection: Connection<dyn IHeapAllocator>,
    service: Service,
}

impl Served {
    /// Starts it with the heaps of this device tree.
    pub(crate) fn start(heaps: &str) -> anyhow::Result<Self> {
        let service = Service::start(heaps)?;
        Ok(Self { connection: service.connect()?, service })
    }
}

impl Way for Served {
    fn words(&self) -> String {
        format!("over {}", self.service.transport())
    }

    fn heaps(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let heaps = self.connection.service.listHeaps().map_err(|status| anyhow::anyhow!("{status}"))?;
        Ok(heaps
            .into_iter()
            .map(|heap| (heap.name, (!heap.available).then_some(heap.unavailableReason)))
            .collect())
    }

    fn allocate(&self, heap: &str, bytes: u64, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
        allocate(self.connection.service.as_ref(), heap, bytes, i32::try_from(count)?, 0)
    }

    fn counts(&self, heap: &str) -> anyhow::Result<Counts> {
        let stats = heap_stats(self.connection.service.as_ref(), heap)?;
        let [buffers, hits, misses] =
            [stats.numOfBuffers, stats.recycled, stats.poolMisses].map(u64::try_from);
        Ok(Counts { buffers: buffers?, hits: hits?, misses: misses? })
    }

    fn trim(&self) -> anyhow::Result<()> {
        self.connection.service.trim("", 0).map_err(|status| anyhow::anyhow!("{status}"))?;
        Ok(())
    }

    fn ask(&self) -> anyhow::Result<bool> {
        self.connection.service.getPressure().map_err(|status| anyhow::anyhow!("{status}"))?;
        Ok(true)
    }
}

/// The service's allocator in this process.
pub(crate) struct InProcess {
    allocator: Arc<Allocator>,
    caller: Caller,
}

impl InProcess {
    /// Creates the heaps of this device tree.
    pub(crate) fn new(heaps: &str) -> anyhow::Result<Self> {
        let file = tempfile::NamedTempFile::with_suffix(".dts")?;
        std::fs::write(file.path(), heaps)?;
        let loaded = load(file.path(), page_size()?)?;
        ensure!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
        let uid = Uid(nix::unistd::geteuid().as_raw());
        Ok(Self {
            allocator: Allocator::new(loaded.config, &WatchedCgroup::None)?,
            caller: Caller { uid, pid: nix::unistd::getpid().as_raw(), context: None },
        })
    }
}

impl Way for InProcess {
    fn words(&self) -> String {
        "within one process, without a transport".to_owned()
    }

    fn heaps(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let heaps = self.allocator.heaps().iter();
        Ok(heaps.map(|heap| (heap.name().to_string(), heap.unavailable().map(str::to_owned))).collect())
    }

    fn allocate(&self, heap: &str, bytes: u64, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
        let bytes = RequestedBytes(i64::try_from(bytes)?);
        let request = Request {
            needs: Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: Access::ReadWrite },
            count: Count::new(i32::try_from(count)?)?,
            selection: Selection::Names(vec![heap.to_owned()]),
            label: Label::default(),
            unzeroed: false,
            metadata: None,
        };
        let grants = self.allocator.allocate(&self.caller, &request);
        let grants = grants.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        Ok(grants.into_iter().map(|grant| grant.fd).collect())
    }

    fn counts(&self, heap: &str) -> anyhow::Result<Counts> {
        let views = self.allocator.stats();
        let view = views.iter().find(|view| view.heap.name().as_str() == heap);
        let view = view.with_context(|| format!("the heap {heap}"))?;
        Ok(Counts { buffers: view.counters.buffers, hits: view.pool.hits, misses: view.pool.misses })
    }

    fn trim(&self) -> anyhow::Result<()> {
        self.allocator.trim(&self.caller, None, 0)?;
        Ok(())
    }

    fn ask(&self) -> anyhow::Result<bool> {
        Ok(false)
    }
}
