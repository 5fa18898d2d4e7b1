// SPDX-License-Identifier: Apache-2.0
//! Which source serves which configured heap on this machine. Nothing falls back silently: a heap whose source is
//! missing is unavailable, with the reason.

use super::{Heap, MaxBuffer, State, Stock};
use crate::config::spec::{Device, HeapSpec};
use crate::pool::{BlockSizes, Layout, ShelfLimits};
use crate::source::arena::Pages;
use crate::source::blocks::BlockSource;
use crate::source::carveout::CarveoutSource;
use crate::source::dma_heap::{CMA_NAMES, DmaHeapSource};
use crate::source::export::{self, Exporter};
use crate::source::ion::{self, IonSource};
use crate::source::ordered::OrderedSources;
use crate::source::udmabuf::UdmabufSource;
use crate::source::{FileSource, Source};
use crate::units::{Backing, HeapName, HeapType, PageSize, RequestedBytes};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most spares of one heap: each takes one of the service's descriptors, or two.
const MAX_SPARES: usize = 256;
/// The same of a heap that keeps blocks, too, which take none.
const MAX_BLOCKS: usize = 2048;
/// How many times the machine's memory the sparse file of a heap's blocks has room for: more than it can ever fill, so
/// that no piece is ever too short.
const BLOCK_ROOM: i64 = 4;

/// What heaps are built from.
pub struct Machine {
    /// Its page size.
    pub page: PageSize,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Shared memory.
    pub memfd: Arc<dyn FileSource>,
    /// Shared memory of huge pages, or why there is none.
    pub hugetlb: Result<Arc<dyn FileSource>, String>,
    /// Where the kernel's dma-heaps are.
    pub dma_heaps: PathBuf,
    /// How memory is set aside.
    pub pages: Arc<dyn Pages>,
    /// How dma-bufs of shared memory are made.
    pub udmabuf: Box<export::Connect>,
}

/// The heap that `spec` describes, ready or unavailable. Heaps of a fixed size take their memory now.
pub fn build(spec: HeapSpec, machine: &Machine) -> Heap {
    let state = match choose(&spec, machine) {
        Ok(source) => State::Ready { max_buffer: max_buffer(&spec, machine, source.as_ref()), source },
        Err(why) => State::Unavailable(why),
    };
    let recycles = matches!(&state, State::Ready { source, .. } if source.recycles());
    // What was asked for by name is kept whatever the kind's default is.
    let keeps = (spec.deferred_free || spec.recycle) && recycles;
    let has_blocks = matches!(&state, State::Ready { source, .. } if source.blocks().is_some());
    let stock = keeps.then(|| Stock::new(shelf_limits(&spec, machine, has_blocks)));
    Heap { spec, page: machine.page, state, stock, fragmented: AtomicU64::new(0) }
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

/// As configured, else an eighth of the memory; never more than the heap can hold.
fn shelf_limits(spec: &HeapSpec, machine: &Machine, has_blocks: bool) -> ShelfLimits {
    let bytes = spec.pool_limit.unwrap_or(machine.memory_bytes / 8).min(spec.size.unwrap_or(u64::MAX));
    ShelfLimits { bytes, spares: if has_blocks { MAX_BLOCKS } else { MAX_SPARES } }
}

fn choose(spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    if let Some(why) = &spec.unavailable {
        return Err(why.clone());
    }
    let is_brokered = matches!(
        (&spec.device, spec.kind),
        (Device::DmaHeap(_) | Device::Ion(_), _) | (Device::Auto, HeapType::Dma)
    );
    match (spec.kind, spec.size) {
        _ if is_brokered => broker(spec, machine),
        _ if spec.secure => Err("secure memory comes from the kernel's own heaps alone".to_owned()),
        (HeapType::Custom, _) => in_order(spec, machine),
        (HeapType::Carveout | HeapType::Chunk | HeapType::Dma, Some(size)) => {
            reserve(spec, size, files(&spec.device, spec.kind, machine)?, machine)
        }
        _ => one_of(&spec.device, spec, machine),
    }
}

/// A heap of the kernel's. Its size, where it has one, is a budget.
fn broker(spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    match &spec.device {
        Device::DmaHeap(name) => dma_heap(std::slice::from_ref(name), spec, machine),
        Device::Ion(name) => ion(ion::Wanted::Named(name), spec, machine),
        _ => {
            let names: Vec<_> = CMA_NAMES.iter().filter_map(|name| HeapName::new(name).ok()).collect();
            dma_heap(&names, spec, machine).or_else(|no_dma_heap| {
                ion(ion::Wanted::Contiguous, spec, machine).map_err(|no_ion| {
                    format!(
                        "contiguous memory comes from the kernel's CMA: {no_dma_heap}; {no_ion}; device = \"memfd\" or \
                         \"hugetlb\" would serve it from memory set aside at the start"
                    )
                })
            })
        }
    }
}

fn dma_heap(names: &[HeapName], spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    let source = DmaHeapSource::connect(&machine.dma_heaps, names, machine.page);
    Ok(Arc::new(source.map_err(|error| error.to_string())?.recycling(spec.recycle)))
}

fn ion(wanted: ion::Wanted<'_>, spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    let source = IonSource::connect(wanted, spec.cached, machine.page);
    Ok(Arc::new(source.map_err(|error| error.to_string())?.recycling(spec.recycle)))
}

/// Sets the heap's whole size aside.
fn reserve(
    spec: &HeapSpec,
    size: u64,
    files: Arc<dyn FileSource>,
    machine: &Machine,
) -> Result<Arc<dyn Source>, String> {
    let layout = match spec.kind {
        // Chunks need not be neighbours.
        HeapType::Chunk => Layout::Scattered,
        _ => Layout::OnePiece { alignment: spec.alignment },
    };
    let capacity = i64::try_from(size).map(RequestedBytes).map_err(|_| format!("size is {size:#x}"))?;
    let capacity = capacity.round_up(machine.page.bytes()).map_err(|error| error.to_string())?;
    // Before anything is taken: a heap that cannot make its buffers keeps nothing from others.
    let exporter = match spec.device {
        Device::Udmabuf | Device::UdmabufHugetlb => Some(exporter(files.as_ref(), size, machine)?),
        _ => None,
    };
    let source = CarveoutSource::reserve(capacity, layout, files, Arc::clone(&machine.pages))
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(match exporter {
        Some(exporter) => source.exporting(exporter, spec.shared.is_some()),
        None => source,
    }))
}

/// The configured sources that this machine has.
fn in_order(spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    let (mut sources, mut missing) = (Vec::new(), Vec::new());
    for device in &spec.devices {
        match one_of(device, spec, machine) {
            Ok(source) => sources.push(source),
            Err(why) => missing.push(format!("{device}: {why}")),
        }
    }
    match OrderedSources::new(sources) {
        Some(sources) => {
            for why in missing {
                log::warn!("heap {} does without a source: {why}", spec.name);
            }
            Ok(Arc::new(sources))
        }
        None if missing.is_empty() => Err("it has no list of sources".to_owned()),
        None => Err(format!("none of its sources is here: {}", missing.join("; "))),
    }
}

/// The source behind one word of a list.
fn one_of(device: &Device, spec: &HeapSpec, machine: &Machine) -> Result<Arc<dyn Source>, String> {
    match device {
        Device::DmaHeap(name) => dma_heap(std::slice::from_ref(name), spec, machine),
        Device::Ion(name) => ion(ion::Wanted::Named(name), spec, machine),
        Device::Udmabuf | Device::UdmabufHugetlb => {
            let files = files(device, spec.kind, machine)?;
            let exporter = exporter(files.as_ref(), machine.memory_bytes / 2, machine)?;
            dma_bufs(spec, files, exporter, machine)
        }
        _ => Ok(files(device, spec.kind, machine)?),
    }
}

/// dma-bufs of blocks where the heap has orders, else of one file each.
fn dma_bufs(
    spec: &HeapSpec,
    files: Arc<dyn FileSource>,
    exporter: Arc<dyn Exporter>,
    machine: &Machine,
) -> Result<Arc<dyn Source>, String> {
    // Orders count ordinary pages, whatever the blocks consist of.
    let is_ordinary = files.granule() == machine.page.bytes();
    let sizes = BlockSizes::new(&spec.pool_orders, machine.page).filter(|_| is_ordinary);
    let Some(sizes) = sizes else { return Ok(Arc::new(UdmabufSource::new(files, exporter))) };
    let room = i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX).saturating_mul(BLOCK_ROOM);
    let room = RequestedBytes(room).round_up(sizes.granule()).map_err(|error| error.to_string())?;
    let source = BlockSource::new(files, exporter, Arc::clone(&machine.pages), sizes, room);
    Ok(Arc::new(source.map_err(|error| error.to_string())?))
}

/// What makes dma-bufs of `files`, of up to `largest` bytes where that is permitted.
fn exporter(files: &dyn FileSource, largest: u64, machine: &Machine) -> Result<Arc<dyn Exporter>, String> {
    (machine.udmabuf)(files, largest).map_err(|error| error.to_string())
}

/// The shared memory behind one device word, be it handed out as it is or as dma-bufs.
fn files(device: &Device, kind: HeapType, machine: &Machine) -> Result<Arc<dyn FileSource>, String> {
    match (device, kind) {
        (Device::Auto, HeapType::SystemContig) | (Device::Hugetlb | Device::UdmabufHugetlb, _) => {
            machine.hugetlb.as_ref().map(Arc::clone).map_err(Clone::clone)
        }
        (Device::Memfd | Device::Udmabuf, HeapType::SystemContig) => {
            Err("memfds are physically contiguous page by page only; device = \"hugetlb\" reaches further"
                .to_owned())
        }
        (Device::Auto | Device::Memfd | Device::Udmabuf, _) => Ok(Arc::clone(&machine.memfd)),
        (Device::Ashmem, _) => Err("ashmem is not connected".to_owned()),
        (Device::DmaHeap(_) | Device::Ion(_), _) => Err("the kernel's heaps are brokered".to_owned()),
    }
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
    /// One for tests, without huge pages and with as much available as there is.
    pub(crate) fn plain(page: PageSize, memory_bytes: u64, memfd: Arc<dyn FileSource>) -> Self {
        let hugetlb = Err("no huge pages in this test".to_owned());
        let dma_heaps = PathBuf::from("/nonexistent");
        Self {
            page,
            memory_bytes,
            memfd,
            hugetlb,
            dma_heaps,
            pages: Arc::new(crate::source::arena::KernelPages),
            udmabuf: Box::new(|_, _| Err(export::NotConnected::Device(std::io::ErrorKind::NotFound.into()))),
        }
    }
}
