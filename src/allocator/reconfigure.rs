// SPDX-License-Identifier: Apache-2.0
//! Applies a new configuration to a running service.

use super::{Allocator, limits};
use crate::config::spec::{Config, HeapSpec};
use crate::heap::Heap;
use crate::units::HeapName;
use std::fmt;

/// Settings of a new configuration that cannot change while the service runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// A heap is new.
    Added(HeapName),
    /// A heap is missing; the service keeps it.
    Removed(HeapName),
    /// These keys of a heap differ.
    Changed(HeapName, Vec<&'static str>),
    /// Bytes of a heap that are kept for clients differ.
    Reserves(HeapName),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(heap) => write!(f, "heap {heap} is new"),
            Self::Removed(heap) => write!(f, "heap {heap} is no longer configured"),
            Self::Changed(heap, keys) => write!(f, "heap {heap} has other values of {}", keys.join(", ")),
            Self::Reserves(heap) => write!(f, "heap {heap} has other reserves of clients"),
        }
    }
}

impl Allocator {
    /// Applies the client policy of `config`: quotas and privileges. Returns the settings of heaps
    /// that differ and that it did not apply.
    pub fn reconfigure(&self, config: &Config) -> Vec<Kept> {
        let mut kept = Vec::new();
        for new in &config.heaps {
            match self.heaps.iter().map(Heap::spec).find(|spec| spec.name == new.name) {
                None => kept.push(Kept::Added(new.name.clone())),
                Some(own) => {
                    let keys = own.differences(new);
                    kept.extend((!keys.is_empty()).then(|| Kept::Changed(new.name.clone(), keys)));
                }
            }
        }
        let specs = || self.heaps.iter().map(Heap::spec);
        let is_gone = |spec: &&HeapSpec| !config.heaps.iter().any(|new| new.name == spec.name);
        kept.extend(specs().filter(is_gone).map(|spec| Kept::Removed(spec.name.clone())));
        let limits = limits(&config.policy, &specs().collect::<Vec<_>>(), self.own_uid);
        for (index, heap) in self.heaps.iter().enumerate() {
            let is_as_before = heap.pool().account().has_reserves(&limits.reserves_of(index));
            kept.extend((!is_as_before).then(|| Kept::Reserves(heap.name().clone())));
        }
        self.registry().ledger.set_limits(limits);
        kept
    }
}
