// SPDX-License-Identifier: Apache-2.0
//! Lists the background threads, for the watchdog.

use super::Allocator;
use crate::pulse::Watched;

impl Allocator {
    /// Returns the progress of each background thread.
    pub fn background(&self) -> Vec<Watched> {
        vec![
            self.liveness.watched(),
            self.giver.watched(),
            self.worker.watched("cleans pooled memory"),
            self.maker.watched("makes reserved buffers"),
            self.shrinker.watched("returns pooled memory when memory is scarce"),
        ]
    }
}
