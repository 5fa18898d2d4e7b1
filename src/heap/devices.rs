// SPDX-License-Identifier: Apache-2.0
//! The devices that a machine may have for memory, as far as heaps are built from them.

use crate::source::dma_heap::DmaHeapSource;
use crate::source::ion::{IonSource, Wanted};
use crate::source::udmabuf::UdmabufSource;
use crate::source::{FileSource, Source};
use crate::units::{HeapName, PageSize};
use std::path::PathBuf;
use std::sync::Arc;

/// A source, or why there is none, in words.
pub type Connected = Result<Arc<dyn Source>, String>;

/// Connects to devices. What it returns was proven with a buffer of the service's own.
pub trait Devices: Send + Sync {
    /// The first of these dma-heaps that there is. With `recycle`, what clients let go of can be handed out again.
    ///
    /// # Errors
    /// Why none works.
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected;

    /// A heap of ION's, for cached mappings if `is_cached`. `recycle` as for dma-heaps.
    ///
    /// # Errors
    /// Why it does not work.
    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected;

    /// dma-bufs of files, of up to `largest` bytes where that is permitted.
    ///
    /// # Errors
    /// Why they cannot be made.
    fn udmabuf(&self, files: Arc<dyn FileSource>, largest: u64) -> Connected;
}

/// Those of the kernel that runs.
#[derive(Debug)]
pub struct KernelDevices {
    /// Its page size.
    pub page: PageSize,
    /// Where its dma-heaps are.
    pub dma_heaps: PathBuf,
}

fn connected<S: Source + 'static, E: std::fmt::Display>(source: Result<S, E>) -> Connected {
    source.map(|source| Arc::new(source) as Arc<dyn Source>).map_err(|error| error.to_string())
}

impl Devices for KernelDevices {
    fn dma_heap(&self, names: &[HeapName], _recycle: bool) -> Connected {
        connected(DmaHeapSource::connect(&self.dma_heaps, names, self.page))
    }

    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, _recycle: bool) -> Connected {
        connected(IonSource::connect(wanted, is_cached, self.page))
    }

    fn udmabuf(&self, files: Arc<dyn FileSource>, largest: u64) -> Connected {
        connected(UdmabufSource::connect(files, largest))
    }
}

#[cfg(test)]
pub(crate) mod scripted {
    use super::*;

    /// Devices of which each answers as it is told to.
    pub(crate) struct ScriptedDevices {
        pub(crate) dma_heap: Connected,
        pub(crate) ion: Connected,
        pub(crate) udmabuf: Connected,
    }

    impl ScriptedDevices {
        /// A machine without any.
        pub(crate) fn none() -> Self {
            let absent = |name: &str| Err(format!("no {name} in this test"));
            Self { dma_heap: absent("dma-heap"), ion: absent("ion"), udmabuf: absent("udmabuf") }
        }
    }

    impl Devices for ScriptedDevices {
        fn dma_heap(&self, _: &[HeapName], _: bool) -> Connected {
            self.dma_heap.clone()
        }

        fn ion(&self, _: Wanted<'_>, _: bool, _: bool) -> Connected {
            self.ion.clone()
        }

        fn udmabuf(&self, _: Arc<dyn FileSource>, _: u64) -> Connected {
            self.udmabuf.clone()
        }
    }
}
