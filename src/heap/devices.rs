// SPDX-License-Identifier: Apache-2.0
//! The memory devices of a machine from which heaps are built.

use super::unavailable::NoSource;
use crate::source::ashmem::AshmemSource;
use crate::source::dma_buf::DmaBuf;
use crate::source::dma_heap::DmaHeapSource;
use crate::source::export::Exporter;
use crate::source::ion::{IonSource, Wanted};
use crate::source::udmabuf::UdmabufDevice;
use crate::source::{FileSource, Memory, Opened};
use crate::sys::references::ReferenceCounts;
use crate::units::{BackedBytes, Backing, HeapName, PageSize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// An opened source, or the reason why it cannot be used.
pub type Connected = Result<Opened, NoSource>;

/// Opens devices. Each opened source was tested with a buffer of the service.
pub trait Devices: Send + Sync {
    /// Opens the first of these dma-heaps that exists. With `recycle`, released buffers can be
    /// pooled.
    ///
    /// # Errors
    /// The reason if none works.
    fn dma_heap(&self, names: &[HeapName], recycle: bool) -> Connected;

    /// Opens an ION heap, for cached mappings if `is_cached`. `recycle` as for dma-heaps.
    ///
    /// # Errors
    /// The reason if it does not work.
    fn ion(&self, wanted: Wanted<'_>, is_cached: bool, recycle: bool) -> Connected;

    /// Opens udmabuf for these files. It raises the kernel's limits to buffers of `largest` bytes
    /// if permitted; 0 leaves them unchanged.
    ///
    /// # Errors
    /// The reason if dma-bufs cannot be made.
    fn udmabuf(&self, files: &dyn FileSource, largest: u64) -> Result<Arc<dyn Exporter>, NoSource>;

    /// Opens Android's shared memory device.
    ///
    /// # Errors
    /// The reason if it cannot be used.
    fn ashmem(&self) -> Connected;

    /// Opens a dma-buf again that an earlier service made.
    ///
    /// # Errors
    /// `InvalidData` if it is no dma-buf of this size; else as the kernel reports.
    fn open_dma_buf(&self, fd: OwnedFd, bytes: BackedBytes, backing: Backing) -> io::Result<Box<dyn Memory>>;
}

/// Opens the devices of the running kernel.
#[derive(Debug)]
pub struct KernelDevices {
    /// Its page size.
    pub page: PageSize,
    /// Directory of its dma-heaps.
    pub dma_heaps: PathBuf,
    /// The reference counter for dma-bufs: one for all sources, since it uses descriptors.
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

    fn open_dma_buf(&self, fd: OwnedFd, bytes: BackedBytes, backing: Backing) -> io::Result<Box<dyn Memory>> {
        Ok(Box::new(DmaBuf::again(fd, bytes, backing, &self.counts)?))
    }
}

#[cfg(test)]
pub(crate) mod scripted {
    use super::*;
    use crate::units::Access;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Devices of which only some exist.
    pub(crate) struct ScriptedDevices {
        pub(crate) dma_heap: Option<Opened>,
        pub(crate) ion: Option<Opened>,
        pub(crate) udmabuf: Option<Arc<dyn Exporter>>,
        pub(crate) ashmem: Option<Opened>,
    }

    impl ScriptedDevices {
        /// Returns the devices of a machine without any.
        pub(crate) fn none() -> Self {
            Self { dma_heap: None, ion: None, udmabuf: None, ashmem: None }
        }
    }

    /// Devices that exist only after they appear.
    pub(crate) struct LaterDevices {
        are_there: AtomicBool,
        then: ScriptedDevices,
    }

    impl LaterDevices {
        /// Returns the devices of a machine where only udmabuf appears later.
        pub(crate) fn udmabuf(exporter: Arc<dyn Exporter>) -> Self {
            let then = ScriptedDevices { udmabuf: Some(exporter), ..ScriptedDevices::none() };
            Self { are_there: AtomicBool::new(false), then }
        }

        /// Makes them exist from now on.
        pub(crate) fn appear(&self) {
            self.are_there.store(true, Ordering::Relaxed);
        }
    }

    /// Opens a memfd that stands for a dma-buf.
    fn open_scripted(fd: OwnedFd, backing: Backing) -> io::Result<Box<dyn Memory>> {
        let counts = Arc::new(ReferenceCounts::open()?);
        Ok(Box::new(DmaBuf::new(fd, Access::ReadWrite, backing, &counts)?))
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

        fn open_dma_buf(&self, fd: OwnedFd, _: BackedBytes, backing: Backing) -> io::Result<Box<dyn Memory>> {
            open_scripted(fd, backing)
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

        fn open_dma_buf(&self, fd: OwnedFd, _: BackedBytes, backing: Backing) -> io::Result<Box<dyn Memory>> {
            open_scripted(fd, backing)
        }
    }
}
