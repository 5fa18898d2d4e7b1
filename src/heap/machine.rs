// SPDX-License-Identifier: Apache-2.0
//! Resources of a machine that heaps use.

use super::devices::Devices;
use crate::source::arena::Pages;
use crate::source::hugetlb::NoHugePages;
use crate::source::release::ReleaseError;
use crate::source::{FileSource, ReleaseMechanism};
use crate::units::PageSize;
use std::sync::Arc;

/// The resources that heaps are built from.
pub struct Machine {
    /// Its page size.
    pub page: PageSize,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Shared memory.
    pub memfd: Arc<dyn FileSource>,
    /// The release mechanism of shared memory.
    pub file_releases: ReleaseMechanism,
    /// Shared memory of huge pages, or why there is none.
    pub hugetlb: Result<Arc<dyn FileSource>, Arc<NoHugePages>>,
    /// Whether releases of it are noticed where clients have the files themselves, or why not.
    /// dma-bufs of it need none.
    pub huge_releases: Result<(), Arc<ReleaseError>>,
    /// The kernel's devices for memory.
    pub devices: Arc<dyn Devices>,
    /// Whether limits of the kernel's that stand against the configuration are raised, where that
    /// is permitted.
    pub raises_limits: bool,
    /// The way in which memory is set aside.
    pub pages: Arc<dyn Pages>,
}

#[cfg(test)]
impl Machine {
    /// Returns one for tests, without devices and huge pages and with as much available as there
    /// is.
    pub(crate) fn plain(page: PageSize, memory_bytes: u64, memfd: Arc<dyn FileSource>) -> Self {
        Self {
            page,
            memory_bytes,
            memfd,
            file_releases: ReleaseMechanism::CloseEvents,
            hugetlb: Err(Arc::new(NoHugePages::Unknown)),
            huge_releases: Ok(()),
            devices: Arc::new(super::devices::scripted::ScriptedDevices::none()),
            raises_limits: false,
            pages: Arc::new(crate::source::arena::KernelPages),
        }
    }
}
