// SPDX-License-Identifier: Apache-2.0
//! Devices that were missing, or closed to the service, when its heaps were made.

use super::{Allocator, max_buffers};
use crate::heap::Heap;

impl Allocator {
    /// Returns whether some heap would rather have a source that could not be used so far.
    pub fn lacks_devices(&self) -> bool {
        self.heaps.iter().any(Heap::may_improve)
    }

    /// Has every heap look again for the sources that it would rather have, as after a device
    /// appeared, and logs what serves it then. Buffers stay as they are. Call it from one thread at
    /// a time; it opens devices.
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
            // Their buffers may take another number of descriptors.
            let most = max_buffers(&self.heaps, self.descriptors);
            self.registry().ledger.set_max_files(most);
        }
    }
}
