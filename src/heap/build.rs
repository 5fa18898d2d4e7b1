// SPDX-License-Identifier: Apache-2.0
//! Configured heaps on this machine. Nothing falls back silently: what serves a heap instead of what stands before it in
//! its list is logged and shown with the reason, and a heap whose sources are all missing is unavailable.

use super::choice::{Chosen, choose, listed};
use super::devices::Devices;
use super::{Heap, MaxBuffer, Pool, State};
use crate::config::spec::{Device, HeapSpec};
use crate::ledger::{HeapAccount, HeapReserve};
use crate::pool::PoolLimits;
use crate::source::arena::Pages;
use crate::source::{FileSource, ReleaseMechanism, Source};
use crate::units::{Backing, HeapType, PageSize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most pooled buffers of one heap: each takes one of the service's descriptors, or two.
const MAX_POOLED: usize = 256;
/// The same of a heap that pools blocks, too, which take none.
const MAX_BLOCKS: usize = 2048;

/// What heaps are built from.
pub struct Machine {
    /// Its page size.
    pub page: PageSize,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Shared memory.
    pub memfd: Arc<dyn FileSource>,
    /// How releases of shared memory are noticed.
    pub file_releases: ReleaseMechanism,
    /// Shared memory of huge pages, or why there is none.
    pub hugetlb: Result<Arc<dyn FileSource>, String>,
    /// Whether releases of it are noticed where clients have the files themselves, or why not. dma-bufs of it need none.
    pub huge_releases: Result<(), String>,
    /// The kernel's devices for memory.
    pub devices: Arc<dyn Devices>,
    /// How memory is set aside.
    pub pages: Arc<dyn Pages>,
}

/// Returns the heap that `spec` describes, ready or unavailable, with the `reserves` of some uids in it. Heaps of a fixed
/// size take their memory now.
pub fn build(spec: HeapSpec, reserves: Vec<HeapReserve>, machine: &Machine) -> Heap {
    let state = match choose(&spec, machine) {
        Ok(Chosen { source, passed_over }) => {
            let passed_over = listed(&passed_over);
            if !passed_over.is_empty() {
                log::info!(
                    "heap {} is served by {}, without {passed_over}",
                    spec.name,
                    source.backing().name()
                );
            }
            State::Ready { max_buffer: max_buffer(&spec, machine, source.as_ref()), source, passed_over }
        }
        Err(why) => State::Unavailable(why),
    };
    let recycles = matches!(&state, State::Ready { source, .. } if source.recycles());
    // What was asked for by name is kept whatever the kind's default is.
    let is_kernels = |source: &dyn Source| matches!(source.backing(), Backing::DmaHeap | Backing::Ion);
    let asked = spec.recycle
        // A list of sources may have the kernel's anywhere.
        && matches!(&state, State::Ready { source, .. } if spec.kind == HeapType::Custom || is_kernels(source.as_ref()));
    let keeps = (spec.deferred_free || asked) && recycles;
    let has_blocks = matches!(&state, State::Ready { source, .. } if source.blocks().is_some());
    if keeps && !has_blocks && !spec.pool_orders.is_empty() {
        // Orders are there by default, too.
        log::debug!(
            "heap {} keeps whole buffers: pool-orders takes effect for udmabuf of ordinary pages alone",
            spec.name
        );
    }
    let limits = keeps.then(|| pool_limits(&spec, machine, has_blocks));
    let pool = Pool::new(HeapAccount::new(spec.size, reserves), limits);
    let file_releases = machine.file_releases;
    Heap { spec, page: machine.page, file_releases, state, pool, fragmented: AtomicU64::new(0) }
}

fn max_buffer(spec: &HeapSpec, machine: &Machine, source: &dyn Source) -> MaxBuffer {
    let heap = match spec.size {
        Some(bytes) => MaxBuffer { bytes, why: "the size of the heap" },
        // As ION's system heap.
        None => MaxBuffer { bytes: machine.memory_bytes / 2, why: "half of the machine's memory" },
    };
    let heap = if source.max_bytes() < heap.bytes {
        MaxBuffer { bytes: source.max_bytes(), why: "the device's limit for one buffer" }
    } else {
        heap
    };
    let piece = source.contiguous_bytes();
    if spec.kind == HeapType::SystemContig && piece < heap.bytes {
        return MaxBuffer { bytes: piece, why: "one huge page; nothing longer is surely in one piece" };
    }
    heap
}

/// Returns the limits as configured, else an eighth of the memory; never more than the heap can hold.
fn pool_limits(spec: &HeapSpec, machine: &Machine, has_blocks: bool) -> PoolLimits {
    let bytes = spec.pool_limit.unwrap_or(machine.memory_bytes / 8).min(spec.size.unwrap_or(u64::MAX));
    PoolLimits { bytes, entries: if has_blocks { MAX_BLOCKS } else { MAX_POOLED } }
}

/// What an unavailable heap's buffers would be.
pub(super) fn intended_backing(spec: &HeapSpec) -> Backing {
    match (spec.devices.first().unwrap_or(&spec.device), spec.kind) {
        (Device::Ashmem, _) => Backing::Ashmem,
        (Device::Udmabuf | Device::UdmabufHugetlb, _) => Backing::Udmabuf,
        (Device::Ion(_), _) => Backing::Ion,
        (Device::DmaHeap(_), _) | (Device::Auto, HeapType::Dma) => Backing::DmaHeap,
        (Device::Hugetlb, _) | (_, HeapType::SystemContig) => Backing::Hugetlb,
        _ => Backing::Memfd,
    }
}

#[cfg(test)]
impl Machine {
    /// One for tests, without devices and huge pages and with as much available as there is.
    pub(crate) fn plain(page: PageSize, memory_bytes: u64, memfd: Arc<dyn FileSource>) -> Self {
        Self {
            page,
            memory_bytes,
            memfd,
            file_releases: ReleaseMechanism::CloseEvents,
            hugetlb: Err("no huge pages in this test".to_owned()),
            huge_releases: Ok(()),
            devices: Arc::new(super::devices::scripted::ScriptedDevices::none()),
            pages: Arc::new(crate::source::arena::KernelPages),
        }
    }
}
