// SPDX-License-Identifier: Apache-2.0
//! The devices that a machine may have for memory, as far as heaps are built from them.

use super::unavailable::NoSource;
use crate::source::ashmem::AshmemSource;
use crate::source::dma_heap::DmaHeapSource;
use crate::source::export::Exporter;
use crate::source::ion::{IonSource, Wanted};
use crate::source::udmabuf::UdmabufDevice;
use crate::source::{FileSource, Opened};
use crate::sys::references::ReferenceCounts;
use crate::units::{HeapName, PageSize};
use std::path::PathBuf;
use std::sync::Arc;

/// A source that was opened, or why there is none.
pub type Connected = Result<Opened, NoSource>;

/// Opens devices. Each result was tested with a buffer of the service's own.
pub trait Devices: Send + Sync {
    /// Opens the first of these dma-heaps that exists. With `recycle`, released buffers can be
    /// pooled.
    ///
    /// # Errors
    /// The reason if none works.
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected;

    /// Opens a heap of ION's, for cached mappings if `is_cached`. `recycle` as for dma-heaps.
    ///
    /// # Errors
    /// The reason if it does not work.
    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected;

    /// Opens what makes dma-bufs of these files, of up to `largest` bytes where the kernel permits
    /// that its limits are raised; 0 to leave them.
    ///
    /// # Errors
    /// The reason if they cannot be made.
    fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, NoSource>;

    /// Opens Android's shared memory device.
    ///
    /// # Errors
    /// The reason if there are none.
    fn ashmem(&self) -> Connected;
}

/// Opens the devices of the running kernel.
#[derive(Debug)]
pub struct KernelDevices {
    /// Its page size.
    pub page: PageSize,
    /// Directory of its dma-heaps.
    pub dma_heaps: PathBuf,
    /// The descriptor for checks of dma-bufs: one for all sources, since it takes descriptors.
    pub counts: Arc<ReferenceCounts>,
}

impl Devices for KernelDevices {
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected {
        Ok(DmaHeapSource::connect(&self.dma_heaps, names, self.page, recycle, &self.counts)?)
    }

    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected {
        Ok(IonSource::connect(wanted, is_cached, self.page, recycle, &self.counts)?)
    }

    fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, NoSource> {
        Ok(Arc::new(UdmabufDevice::connect(files, largest, &self.counts)?))
    }

    fn ashmem(&self) -> Connected {
        Ok(AshmemSource::connect(self.page)?)
    }
}

#[cfg(test)]
pub(crate) mod scripted {
    use super::*;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Devices of which some are there.
    pub(crate) struct ScriptedDevices {
        pub(crate) dma_heap: Option<Opened>,
        pub(crate) ion: Option<Opened>,
        pub(crate) udmabuf: Option<Arc<dyn Exporter>>,
        pub(crate) ashmem: Option<Opened>,
    }

    impl ScriptedDevices {
        /// Returns those of a machine without any.
        pub(crate) fn none() -> Self {
            Self { dma_heap: None, ion: None, udmabuf: None, ashmem: None }
        }
    }

    /// The same, of which none is there until they appear.
    pub(crate) struct LaterDevices {
        are_there: AtomicBool,
        then: ScriptedDevices,
    }

    impl LaterDevices {
        /// Returns those of a machine with udmabuf alone, later.
        pub(crate) fn udmabuf(exporter: Arc<dyn Exporter>) -> Self {
            let then = ScriptedDevices { udmabuf: Some(exporter), ..ScriptedDevices::none() };
            Self { are_there: AtomicBool::new(false), then }
        }

        /// Has them be there from now on.
        pub(crate) fn appear(&self) {
            self.are_there.store(true, Ordering::Relaxed);
        }
    }

    impl Devices for LaterDevices {
        fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected {
            self.then.dma_heap(names, recycle)
        }

        fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected {
            self.then.ion(wanted, is_cached, recycle)
        }

        fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, NoSource> {
            if !self.are_there.load(Ordering::Relaxed) {
                return Err(absent("udmabuf"));
            }
            self.then.udmabuf(files, largest)
        }

        fn ashmem(&self) -> Connected {
            self.then.ashmem()
        }
    }

    fn absent(name: &str) -> NoSource {
        NoSource::Blocks(io::Error::other(format!("no {name} in this test")))
    }

    impl Devices for ScriptedDevices {
        fn dma_heap(&self, _: &[HeapName], _: bool) -> Connected {
            self.dma_heap.clone().ok_or_else(|| absent("dma-heap"))
        }

        fn ion(&self, _: Wanted<'_>, _: bool, _: bool) -> Connected {
            self.ion.clone().ok_or_else(|| absent("ion"))
        }

        fn udmabuf(&self, _: &dyn FileSource, _: u64) -> Result<Arc<dyn Exporter>, NoSource> {
            self.udmabuf.clone().ok_or_else(|| absent("udmabuf"))
        }

        fn ashmem(&self) -> Connected {
            self.ashmem.clone().ok_or_else(|| absent("ashmem"))
        }
    }
}
