// SPDX-License-Identifier: Apache-2.0
//! Makes buffers of one heap of the kernel's ION device (Linux up to 5.10, and vendors' kernels).

use super::dma_buf::{DmaBuf, prove};
use super::{Capabilities, Memory, Opened, Source, SourceError, is_exhaustion};
use crate::sys::ion::{Ion, IonHeap};
use crate::sys::references::ReferenceCounts;
use crate::units::{Access, BackedBytes, Backing, HeapName, PageSize};
use std::io;
use std::sync::Arc;

/// ION's number of a heap of pages (`ION_HEAP_TYPE_SYSTEM`).
const TYPE_SYSTEM: u32 = 0;
/// ION's numbers of heaps of contiguous memory: `ION_HEAP_TYPE_SYSTEM_CONTIG` and
/// `ION_HEAP_TYPE_DMA`.
const TYPE_SYSTEM_CONTIG: u32 = 1;
const TYPE_DMA: u32 = 4;
/// Bit of an allocation's flags: CPU mappings are cached.
const FLAG_CACHED: u32 = 1;

/// A heap of the device.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The heap of this name.
    Named(&'a HeapName),
    /// The first heap of pages; heaps with these names come before all others.
    System(&'a [HeapName]),
    /// The first heap of contiguous memory; heaps with these names come before all others.
    Contiguous(&'a [HeapName]),
}

/// Reason why an ION heap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoIon {
    /// The kernel has no ION, or it is not permitted to the service.
    #[error("/dev/ion cannot be opened: {0}")]
    Device(io::Error),
    /// It does not report its heaps.
    #[error("/dev/ion does not name its heaps: {0}")]
    Query(io::Error),
    /// There is no such heap.
    #[error("ION has no heap {wanted}; it has {found}")]
    Absent {
        /// The requested name.
        wanted: String,
        /// Names of the existing heaps.
        found: String,
    },
    /// It gives no memory, or releases of its buffers are not detected.
    #[error("ION's heap {name} does not work: {source}")]
    Broken {
        /// Its name.
        name: String,
        /// The reason.
        source: io::Error,
    },
}

/// One heap of the kernel's ION.
#[derive(Debug)]
pub struct IonSource {
    device: Ion,
    heap: IonHeap,
    flags: u32,
    recycles: bool,
    counts: Arc<ReferenceCounts>,
}

impl IonSource {
    /// Finds the heap and tests with one page that the release of its buffers is detected. With
    /// `recycles`, released buffers are cleaned and pooled, instead of returned.
    ///
    /// # Errors
    /// The reason if none works.
    pub fn connect(
        wanted: Wanted<'_>,
        is_cached: bool,
        page: PageSize,
        recycles: bool,
        counts: &Arc<ReferenceCounts>,
    ) -> Result<Opened, NoIon> {
        let device = Ion::open().map_err(NoIon::Device)?;
        if let Some(version) = device.abi_version() {
            log::info!("ION's heaps are kernel modules, interface version {version}");
        }
        let heaps = device.heaps().map_err(NoIon::Query)?;
        let Some(heap) = find(&heaps, wanted).cloned() else {
            let wanted = match wanted {
                Wanted::Named(name) => name.to_string(),
                Wanted::System(_) => "of pages".to_owned(),
                Wanted::Contiguous(_) => "of contiguous memory".to_owned(),
            };
            let names: Vec<_> = heaps.into_iter().map(|heap| heap.name).collect();
            return Err(NoIon::Absent { wanted, found: names.join(", ") });
        };
        let flags = if is_cached { FLAG_CACHED } else { 0 };
        let is_dry = match prove(counts, || device.allocate(page.bytes(), heap.id, flags)) {
            Ok(()) => false,
            Err(error) if is_exhaustion(&error) => true,
            Err(source) => return Err(NoIon::Broken { name: heap.name, source }),
        };
        let is_contiguous = matches!(heap.kind, TYPE_SYSTEM_CONTIG | TYPE_DMA);
        let capabilities = Capabilities {
            contiguous_bytes: if is_contiguous { u64::MAX } else { page.bytes() },
            // ION's descriptors are always open for reading and writing.
            read_only: false,
            is_machine_memory: !is_contiguous,
            recycles,
            ..Capabilities::of_pieces(Backing::Ion, page.bytes())
        };
        let source = Arc::new(Self { device, heap, flags, recycles, counts: Arc::clone(counts) });
        Ok(Opened { is_dry, ..Opened::new(source, capabilities) })
    }
}

/// Returns the wanted heap.
fn find<'h>(heaps: &'h [IonHeap], wanted: Wanted<'_>) -> Option<&'h IonHeap> {
    let first = |kind: u32, names: &[HeapName]| {
        let of_kind = || heaps.iter().filter(move |heap| heap.kind == kind);
        let named = names.iter().find_map(|name| of_kind().find(|heap| heap.name == name.as_str()));
        named.or_else(|| of_kind().next())
    };
    match wanted {
        Wanted::Named(name) => heaps.iter().find(|heap| heap.name == name.as_str()),
        Wanted::System(names) => first(TYPE_SYSTEM, names),
        Wanted::Contiguous(names) => first(TYPE_DMA, names),
    }
}

impl Source for IonSource {
    fn create(&self, bytes: BackedBytes, _: Access, _: &str) -> Result<Box<dyn Memory>, SourceError> {
        let fd = self.device.allocate(bytes.get(), self.heap.id, self.flags)?;
        Ok(Box::new(DmaBuf::of_kernel(
            fd,
            Access::ReadWrite,
            Backing::Ion,
            &self.counts,
            bytes,
            self.recycles,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_of_the_boards_name_and_kind_comes_before_the_first_of_its_kind() {
        let heap = |name: &str, kind, id| IonHeap { name: name.to_owned(), kind, id };
        let heaps = [heap("adsp", 2, 3), heap("reserved", 4, 2), heap("adsp", 4, 22), heap("system", 0, 25)];
        let names = ["qsecom", "adsp"].map(|name| HeapName::new(name).expect("valid"));
        let id = |wanted| find(&heaps, wanted).map(|heap| heap.id);
        assert_eq!(id(Wanted::Contiguous(&names)), Some(22));
        assert_eq!(id(Wanted::Contiguous(&[])), Some(2));
        assert_eq!(id(Wanted::System(&names)), Some(25));
        assert_eq!(find(&heaps[..1], Wanted::Contiguous(&names)), None);
    }
}
