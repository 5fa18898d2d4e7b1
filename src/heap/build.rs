// SPDX-License-Identifier: Apache-2.0
//! Which source serves which configured heap on this machine. Nothing falls back silently: a heap whose source is
//! missing is unavailable, with the reason.

use super::{Heap, State, Stock};
use crate::config::spec::{Device, HeapSpec};
use crate::pool::ShelfLimits;
use crate::source::Source;
use crate::units::{Backing, HeapType, PageSize};
use std::sync::Arc;

/// Most spares of one heap: each takes one of the service's descriptors.
const MAX_SPARES: usize = 256;

/// What heaps are built from.
pub struct Machine {
    /// Its page size.
    pub page: PageSize,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Shared memory.
    pub memfd: Arc<dyn Source>,
}

/// The heap that `spec` describes, ready or unavailable.
pub fn build(spec: HeapSpec, machine: &Machine) -> Heap {
    let state = match choose(&spec, machine) {
        Ok(source) => {
            // ION's system heap refuses a buffer above half of the memory, and so does ours without a size.
            let max_buffer_bytes = spec.size.unwrap_or(machine.memory_bytes / 2);
            State::Ready { source, max_buffer_bytes }
        }
        Err(why) => State::Unavailable(why),
    };
    let keeps = spec.deferred_free && matches!(state, State::Ready { .. });
    let stock = keeps.then(|| Stock::new(shelf_limits(&spec, machine)));
    Heap { spec, page: machine.page, state, stock }
}

/// As configured, else an eighth of the memory; never more than the heap can hold.
fn shelf_limits(spec: &HeapSpec, machine: &Machine) -> ShelfLimits {
    let bytes = spec.pool_limit.unwrap_or(machine.memory_bytes / 8).min(spec.size.unwrap_or(u64::MAX));
    ShelfLimits { bytes, spares: MAX_SPARES }
}

fn choose(spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    if let Some(why) = &spec.unavailable {
        return Err(why.clone());
    }
    if spec.secure {
        return Err("secure memory comes from the kernel alone, and no kernel heap is connected".to_owned());
    }
    match (&spec.device, spec.kind) {
        (Device::Auto, HeapType::Dma) => {
            Err("contiguous memory comes from the kernel's CMA, and no kernel heap is connected; \
                 device = \"memfd\" would serve it from a budget of ordinary memory"
                .to_owned())
        }
        (Device::Auto | Device::Memfd, HeapType::SystemContig) => {
            Err("physically contiguous memory needs huge pages, which are not connected".to_owned())
        }
        (Device::Auto | Device::Memfd, HeapType::Custom) => {
            Err("a custom heap needs a list of sources, which are not connected".to_owned())
        }
        (Device::Auto | Device::Memfd, _) => Ok(Arc::clone(&machine.memfd)),
        (Device::Hugetlb, _) => Err("huge pages are not connected".to_owned()),
        (Device::Ashmem, _) => Err("ashmem is not connected".to_owned()),
        (Device::Udmabuf, _) => Err("udmabuf is not connected".to_owned()),
        (Device::DmaHeap(name), _) => Err(format!("the kernel's dma-heap {name} is not connected")),
        (Device::Ion(name), _) => Err(format!("the kernel's ion heap {name} is not connected")),
    }
}

/// What an unavailable heap's buffers would be.
pub(super) fn intended_backing(spec: &HeapSpec) -> Backing {
    match (&spec.device, spec.kind) {
        (Device::Ashmem, _) => Backing::Ashmem,
        (Device::Udmabuf, _) => Backing::Udmabuf,
        (Device::Ion(_), _) => Backing::Ion,
        (Device::DmaHeap(_), _) | (Device::Auto, HeapType::Dma) => Backing::DmaHeap,
        (Device::Hugetlb, _) | (_, HeapType::SystemContig) => Backing::Hugetlb,
        _ => Backing::Memfd,
    }
}
