// SPDX-License-Identifier: Apache-2.0
//! Builds the configured heaps on this machine. Every fallback is visible: if a heap does not get
//! its first source, the log and the heap's description name the skipped sources with the reason. A
//! heap without any usable source is unavailable.

use super::choice::{Chosen, choose};
use super::machine::Machine;
use super::unavailable::{PassedOver, Unavailable};
use super::{Heap, MaxBuffer, Pool, Serving, State, discard};
use crate::config::spec::{Device, HeapSpec};
use crate::ledger::{HeapAccount, HeapReserve};
use crate::pool::PoolLimits;
use crate::source::{Capabilities, Opened};
use crate::units::{Backing, HeapType};
use std::sync::atomic::AtomicU64;

/// Most pooled buffers of one heap: each uses one or two of the service's descriptors.
const MAX_POOLED: usize = 256;
/// Most pooled buffers and blocks of a heap that pools blocks, which use no descriptors.
const MAX_BLOCKS: usize = 2048;

/// Returns the heap that `spec` describes, ready or unavailable, with the `reserves` of some uids.
/// A heap of a fixed size takes its memory now.
pub fn build(spec: HeapSpec, reserves: Vec<HeapReserve>, machine: &Machine) -> Heap {
    let (state, limits) = match serve(&spec, machine) {
        Ok((state, limits)) => (state, limits),
        Err(why) => (State::Unavailable(why.to_string()), None),
    };
    let pool = Pool::new(HeapAccount::new(spec.size, reserves), limits);
    let (page, file_releases) = (machine.page, machine.file_releases);
    let serving = Serving::new(state);
    let heap = Heap { spec, page, file_releases, serving, pool, fragmented: AtomicU64::new(0) };
    if !heap.passed_over().is_empty() {
        let (name, backing) = (heap.name(), heap.backing().name());
        log::warn!("heap {name} uses {backing}; skipped: {}", heap.passed_over());
    }
    heap
}

/// Opens the source of `spec` on this machine. Returns it with the limits of its pool.
fn serve(spec: &HeapSpec, machine: &Machine) -> Result<(State, Option<PoolLimits>), Unavailable> {
    let Chosen { opened, passed_over } = choose(spec, machine)?;
    let max_buffer = max_buffer(spec, machine, &opened.capabilities);
    let limits = pool_limits(spec, machine, &opened);
    let passed_over = passed_over.iter().map(PassedOver::to_string).collect();
    Ok((State::Ready { opened, max_buffer, passed_over }, limits))
}

impl State {
    /// Returns the number of skipped sources that another attempt may open; the largest number if
    /// the heap is unavailable.
    fn missing(&self) -> usize {
        match self {
            State::Ready { opened, passed_over, .. } if opened.arena.is_none() => passed_over.len(),
            State::Ready { .. } => 0,
            State::Unavailable(_) => usize::MAX,
        }
    }
}

impl Heap {
    /// Returns whether [`Heap::retry`] may find another source.
    pub fn may_improve(&self) -> bool {
        self.state().missing() > 0
    }

    /// Opens preferred sources that could not be used before, for example after a device appeared.
    /// Returns whether another source serves the heap from now on. Buffers stay as they are; the
    /// pool returns the memory of the earlier source to the kernel. A heap whose memory was set
    /// aside keeps its source.
    ///
    /// Only one thread at a time may call it. It opens devices, and holds no lock meanwhile.
    pub fn retry(&self, machine: &Machine) -> bool {
        let serving = self.serving.last();
        let missing = serving.state.missing();
        if missing == 0 {
            return false;
        }
        let Ok((state, limits)) = serve(&self.spec, machine) else { return false };
        let is_better = matches!(&state, State::Ready { passed_over, .. } if passed_over.len() < missing);
        if !is_better || serving.later.set(Box::new(Serving::new(state))).is_err() {
            return false;
        }
        discard(self.pool.begin_again(limits));
        true
    }
}

/// Returns the size of the largest buffer, and the reason for this limit.
fn max_buffer(spec: &HeapSpec, machine: &Machine, capabilities: &Capabilities) -> MaxBuffer {
    let heap = match spec.size {
        Some(bytes) => MaxBuffer { bytes, why: "the size of the heap" },
        // The same as for ION's system heap.
        None => MaxBuffer { bytes: machine.memory_bytes / 2, why: "half of the machine's memory" },
    };
    let heap = if capabilities.max_bytes < heap.bytes {
        MaxBuffer { bytes: capabilities.max_bytes, why: "the device's limit for one buffer" }
    } else {
        heap
    };
    let piece = capabilities.contiguous_bytes;
    if spec.kind == HeapType::SystemContig && piece < heap.bytes {
        return MaxBuffer { bytes: piece, why: "one huge page; a longer buffer may have several pieces" };
    }
    heap
}

/// Returns the limits of the heap's pool as configured, else an eighth of the memory, and at most
/// the heap's size; `None` if nothing is pooled.
fn pool_limits(spec: &HeapSpec, machine: &Machine, opened: &Opened) -> Option<PoolLimits> {
    let Capabilities { backings, recycles, .. } = &opened.capabilities;
    // An explicit `recycle` overrides the default of the kind.
    let has_kernels = backings.iter().any(|backing| matches!(backing, Backing::DmaHeap | Backing::Ion));
    // A list of sources may contain a kernel heap at any place.
    let asked = spec.recycle && (spec.kind == HeapType::Custom || has_kernels);
    if !recycles || !(spec.deferred_free || asked) {
        return None;
    }
    let has_blocks = opened.blocks.is_some();
    if !has_blocks && !spec.pool_orders.is_empty() {
        // Orders are also set by default.
        log::debug!(
            "heap {} keeps whole buffers: pool-orders takes effect only for udmabuf of ordinary pages",
            spec.name
        );
    }
    let bytes = spec.pool_limit.unwrap_or(machine.memory_bytes / 8).min(spec.size.unwrap_or(u64::MAX));
    Some(PoolLimits { bytes, entries: if has_blocks { MAX_BLOCKS } else { MAX_POOLED } })
}

/// Returns the kind of buffers that an unavailable heap is configured for.
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
