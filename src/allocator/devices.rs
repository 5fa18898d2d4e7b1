// SPDX-License-Identifier: Apache-2.0
//! Devices that were missing, or not permitted to the service, when its heaps were made.

use super::{Allocator, max_buffers};
use crate::heap::Heap;

impl Allocator {
    /// Returns whether a heap prefers a source that it could not use so far.
    pub fn lacks_devices(&self) -> bool {
        self.heaps.iter().any(Heap::may_improve)
    }

    /// Makes every heap try its preferred sources again, for example after a device appeared, and
    /// logs the source that serves it then. Buffers stay as they are. It opens devices; only one
    /// thread at a time may call it.
    pub fn retry_devices(&self) {
        let changed: Vec<&Heap> = self.heaps.iter().filter(|heap| heap.retry(&self.machine)).collect();
        for heap in &changed {
            let (name, backing, without) = (heap.name(), heap.backing().name(), heap.passed_over());
            if without.is_empty() {
                log::info!("heap {name} now uses {backing}");
            } else {
                log::warn!("heap {name} now uses {backing}; skipped: {without}");
            }
        }
        if !changed.is_empty() {
            // Buffers of the new sources may need another number of descriptors.
            let most = max_buffers(&self.heaps, self.descriptors);
            self.registry().ledger.set_max_files(most);
        }
    }
}
