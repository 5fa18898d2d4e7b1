// SPDX-License-Identifier: Apache-2.0
//! The devices that a machine may have for memory, as far as heaps are built from them.

use crate::source::ashmem::AshmemSource;
use crate::source::dma_heap::DmaHeapSource;
use crate::source::export::{Exporter, UdmabufDevice};
use crate::source::ion::{IonSource, Wanted};
use crate::source::{FileSource, Opened};
use crate::sys::references::ReferenceCounts;
use crate::units::{HeapName, PageSize};
use std::path::PathBuf;
use std::sync::Arc;

/// A source that was opened, or why there is none, in words.
pub type Connected = Result<Opened, String>;

/// Connects to devices. What it returns was proven with a buffer of the service's own.
pub trait Devices: Send + Sync {
    /// Opens the first of these dma-heaps that there is. With `recycle`, released buffers can be
    /// handed out again.
    ///
    /// # Errors
    /// Why none works.
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected;

    /// Opens a heap of ION's, for cached mappings if `is_cached`. `recycle` as for dma-heaps.
    ///
    /// # Errors
    /// Why it does not work.
    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected;

    /// Opens what makes dma-bufs of these files, of up to `largest` bytes where that is permitted.
    ///
    /// # Errors
    /// Why they cannot be made.
    fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, String>;

    /// Opens Android's shared memory device.
    ///
    /// # Errors
    /// Why there are none.
    fn ashmem(&self) -> Connected;
}

/// Those of the kernel that runs.
#[derive(Debug)]
pub struct KernelDevices {
    /// Its page size.
    pub page: PageSize,
    /// Where its dma-heaps are.
    pub dma_heaps: PathBuf,
    /// Whether limits of the kernel's that stand against the configuration are raised, where that
    /// is permitted.
    pub raises_limits: bool,
    /// What is asked for releases of dma-bufs: one for all sources, since it takes descriptors.
    pub counts: Arc<ReferenceCounts>,
}

impl Devices for KernelDevices {
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected {
        DmaHeapSource::connect(&self.dma_heaps, names, self.page, recycle, &self.counts)
            .map_err(|error| error.to_string())
    }

    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected {
        IonSource::connect(wanted, is_cached, self.page, recycle, &self.counts)
            .map_err(|error| error.to_string())
    }

    fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, String> {
        let largest = if self.raises_limits { largest } else { 0 };
        let device = UdmabufDevice::connect(files, largest, &self.counts);
        Ok(Arc::new(device.map_err(|error| error.to_string())?))
    }

    fn ashmem(&self) -> Connected {
        AshmemSource::connect(self.page).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
pub(crate) mod scripted {
    use super::*;

    /// Devices of which each answers as it is told to.
    pub(crate) struct ScriptedDevices {
        pub(crate) dma_heap: Connected,
        pub(crate) ion: Connected,
        pub(crate) udmabuf: Result<Arc<dyn Exporter>, String>,
        pub(crate) ashmem: Connected,
    }

    impl ScriptedDevices {
        /// Returns those of a machine without any.
        pub(crate) fn none() -> Self {
            let absent = |name: &str| format!("no {name} in this test");
            Self {
                dma_heap: Err(absent("dma-heap")),
                ion: Err(absent("ion")),
                udmabuf: Err(absent("udmabuf")),
                ashmem: Err(absent("ashmem")),
            }
        }
    }

    impl Devices for ScriptedDevices {
        fn dma_heap(&self, _: &[HeapName], _: bool) -> Connected {
            self.dma_heap.clone()
        }

        fn ion(&self, _: Wanted<'_>, _: bool, _: bool) -> Connected {
            self.ion.clone()
        }

        fn udmabuf(&self, _: &dyn FileSource, _: u64) -> Result<Arc<dyn Exporter>, String> {
            self.udmabuf.clone()
        }

        fn ashmem(&self) -> Connected {
            self.ashmem.clone()
        }
    }
}
