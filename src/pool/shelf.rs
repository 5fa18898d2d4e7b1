// SPDX-License-Identifier: Apache-2.0
//! Zeroed spares, ready to be handed out. ION's `ion_page_pool`, for buffers of any exact size.

use super::spare::{Spare, TrustDomain, Zeroed};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// How much a shelf keeps. ION's pools had no limit but the shrinker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShelfLimits {
    /// Most bytes.
    pub bytes: u64,
    /// Most spares: each takes one of the service's descriptors.
    pub spares: usize,
}

/// Zeroed spares by size and trust domain. A file's size is sealed, so only a request for exactly that size can use
/// it; camera and graphics ask for the same few sizes over and over.
#[derive(Debug)]
pub struct Shelf<M> {
    limits: ShelfLimits,
    classes: BTreeMap<u64, Class<M>>,
    bytes: u64,
    spares: usize,
}

/// Spares of one size, oldest first within each domain.
type Class<M> = HashMap<TrustDomain, VecDeque<Shelved<M>>>;

#[derive(Debug)]
struct Shelved<M> {
    spare: Spare<M, Zeroed>,
    /// When it was put here.
    since: Duration,
}

impl<M> Shelf<M> {
    /// An empty shelf.
    pub fn new(limits: ShelfLimits) -> Self {
        Self { limits, classes: BTreeMap::new(), bytes: 0, spares: 0 }
    }

    /// How much it keeps at most.
    pub fn limits(&self) -> ShelfLimits {
        self.limits
    }

    /// Puts a spare there at time `now`.
    ///
    /// # Errors
    /// The spare itself, if the shelf is full.
    pub fn put(&mut self, spare: Spare<M, Zeroed>, now: Duration) -> Result<(), Spare<M, Zeroed>> {
        let bytes = spare.bytes().get();
        if self.spares >= self.limits.spares || bytes > self.limits.bytes.saturating_sub(self.bytes) {
            return Err(spare);
        }
        self.bytes += bytes;
        self.spares += 1;
        let class = self.classes.entry(bytes).or_default();
        class.entry(spare.domain().clone()).or_default().push_back(Shelved { spare, since: now });
        Ok(())
    }

    /// Takes the oldest spare of exactly this size that `domain` may have.
    pub fn take(&mut self, bytes: u64, domain: &TrustDomain) -> Option<Spare<M, Zeroed>> {
        let class = self.classes.get_mut(&bytes)?;
        let queue = class.get_mut(domain)?;
        let taken = queue.pop_front()?.spare;
        if queue.is_empty() {
            class.remove(domain);
        }
        if class.is_empty() {
            self.classes.remove(&bytes);
        }
        self.bytes -= bytes;
        self.spares -= 1;
        Some(taken)
    }

    /// Takes spares for the kernel until they have at least `bytes` bytes, or all of them for 0: the largest first,
    /// and of those the oldest (`ion_page_pool_shrink`).
    pub fn shrink(&mut self, bytes: u64) -> Vec<Spare<M, Zeroed>> {
        let (mut taken, mut total) = (Vec::new(), 0);
        while bytes == 0 || total < bytes {
            let Some(spare) = self.take_largest() else { break };
            total += spare.bytes().get();
            taken.push(spare);
        }
        taken
    }

    fn take_largest(&mut self) -> Option<Spare<M, Zeroed>> {
        let (bytes, class) = self.classes.last_key_value()?;
        let age = |queue: &VecDeque<Shelved<M>>| queue.front().map(|shelved| shelved.since);
        let (domain, _) = class.iter().min_by_key(|(_, queue)| age(queue))?;
        let (bytes, domain) = (*bytes, domain.clone());
        self.take(bytes, &domain)
    }

    /// Takes all spares that were put there before `deadline`.
    pub fn expire(&mut self, deadline: Duration) -> Vec<Spare<M, Zeroed>> {
        let mut stale = Vec::new();
        for (bytes, class) in &self.classes {
            for (domain, queue) in class {
                let old = queue.iter().take_while(|shelved| shelved.since < deadline).count();
                stale.extend(std::iter::repeat_n((*bytes, domain.clone()), old));
            }
        }
        stale.into_iter().filter_map(|(bytes, domain)| self.take(bytes, &domain)).collect()
    }

    /// What is there, in no order.
    pub fn memories(&self) -> impl Iterator<Item = &M> {
        let queues = self.classes.values().flat_map(HashMap::values);
        queues.flatten().map(|shelved| shelved.spare.memory())
    }

    /// Bytes on the shelf: reclaimable at any time.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.spares == 0
    }
}
