// SPDX-License-Identifier: Apache-2.0
//! Makes buffers of one of the kernel's dma-heaps, for clients that may not open its device.

use super::dma_buf::{DmaBuf, prove};
use super::{Capabilities, Memory, Opened, Source, SourceError, is_exhaustion};
use crate::sys::dma_heap::{DmaHeap, names, path};
use crate::sys::references::ReferenceCounts;
use crate::units::{Access, BackedBytes, Backing, HeapName, PageSize};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Names of the kernel's heap of contiguous memory, in the order in which they are tried. Until
/// Linux 6.16 it has the name of its region, since then a fixed one.
pub const CMA_NAMES: [&str; 4] = ["default_cma_region", "linux,cma", "reserved", "default-pool"];

/// Reason why a dma-heap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoDmaHeap {
    /// The kernel has no dma-heap with one of these names.
    #[error("the kernel has no dma-heap {wanted}; it has {}", list(.found))]
    Absent {
        /// Names that were tried.
        wanted: String,
        /// The existing dma-heaps.
        found: Vec<HeapName>,
    },
    /// It exists, but is not permitted to the service.
    #[error("{path} cannot be opened: {source}")]
    Closed {
        /// Its device.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// It exists, but gives no memory, or releases of its buffers are not detected.
    #[error("dma-heap {name} does not work: {source}")]
    Broken {
        /// Its name.
        name: HeapName,
        /// The reason.
        source: io::Error,
    },
}

fn list(found: &[HeapName]) -> String {
    if found.is_empty() {
        return "none".to_owned();
    }
    found.iter().map(HeapName::as_str).collect::<Vec<_>>().join(", ")
}

/// One of the kernel's dma-heaps.
#[derive(Debug)]
pub struct DmaHeapSource {
    heap: DmaHeap,
    recycles: bool,
    counts: Arc<ReferenceCounts>,
}

impl DmaHeapSource {
    /// Opens the first of `wanted` that `directory` has, and tests with one page that the release
    /// of its buffers is detected. With `recycles`, released buffers are cleaned and pooled,
    /// instead of returned.
    ///
    /// # Errors
    /// The reason if none works.
    pub fn connect(
        directory: &Path,
        wanted: &[HeapName],
        page: PageSize,
        recycles: bool,
        counts: &Arc<ReferenceCounts>,
    ) -> Result<Opened, NoDmaHeap> {
        for name in wanted {
            let heap = match DmaHeap::open(directory, name) {
                Ok(heap) => heap,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => {
                    let path = path(directory, name).display().to_string();
                    return Err(NoDmaHeap::Closed { path, source });
                }
            };
            let is_dry = match prove(counts, || heap.allocate(page.bytes(), Access::ReadWrite)) {
                Ok(()) => false,
                Err(error) if is_exhaustion(&error) => true,
                Err(source) => return Err(NoDmaHeap::Broken { name: name.clone(), source }),
            };
            let is_contiguous = CMA_NAMES.contains(&name.as_str());
            let capabilities = Capabilities {
                contiguous_bytes: if is_contiguous { u64::MAX } else { page.bytes() },
                is_machine_memory: !is_contiguous,
                recycles,
                ..Capabilities::of_pieces(Backing::DmaHeap, page.bytes())
            };
            let source = Arc::new(Self { heap, recycles, counts: Arc::clone(counts) });
            return Ok(Opened { is_dry, ..Opened::new(source, capabilities) });
        }
        let wanted = list(wanted);
        Err(NoDmaHeap::Absent { wanted, found: names(directory).unwrap_or_default() })
    }
}

impl Source for DmaHeapSource {
    fn create(&self, bytes: BackedBytes, access: Access, _: &str) -> Result<Box<dyn Memory>, SourceError> {
        let fd = self.heap.allocate(bytes.get(), access)?;
        Ok(Box::new(DmaBuf::of_kernel(fd, access, Backing::DmaHeap, &self.counts, bytes, self.recycles)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_whether_a_heap_is_missing_or_is_no_device() {
        let directory = tempfile::tempdir().expect("a directory");
        let page = PageSize::new(4096).expect("valid");
        let [system, cma] = ["system", "linux,cma"].map(|name| HeapName::new(name).expect("valid"));
        let counts = Arc::new(ReferenceCounts::open().expect("/proc"));
        let why = |wanted: &[HeapName]| {
            let opened = DmaHeapSource::connect(directory.path(), wanted, page, false, &counts);
            opened.map(drop).expect_err("no heap").to_string()
        };
        assert_eq!(why(std::slice::from_ref(&system)), "the kernel has no dma-heap system; it has none");
        std::fs::write(directory.path().join("system"), "").expect("a file");
        assert_eq!(why(std::slice::from_ref(&cma)), "the kernel has no dma-heap linux,cma; it has system");
        assert!(why(&[cma, system]).contains("cannot be opened: it is no character device"));
    }
}
