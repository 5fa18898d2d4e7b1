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
    /// Makes memfds of ordinary pages.
    pub memfd: Arc<dyn FileSource>,
    /// The release mechanism of these memfds.
    pub file_releases: ReleaseMechanism,
    /// Makes memfds of huge pages, or the reason why that is not possible.
    pub hugetlb: Result<Arc<dyn FileSource>, Arc<NoHugePages>>,
    /// Whether releases of huge-page memfds are reported if clients hold the files directly, or why
    /// not. dma-bufs of them do not need that.
    pub huge_releases: Result<(), Arc<ReleaseError>>,
    /// The kernel's devices for memory.
    pub devices: Arc<dyn Devices>,
    /// Whether kernel limits that are too low for the configuration are raised, if that is
    /// permitted.
    pub raises_limits: bool,
    /// Sets memory aside.
    pub pages: Arc<dyn Pages>,
}

#[cfg(test)]
impl Machine {
    /// Returns a machine for tests, without devices and huge pages, whose memory is all available.
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
