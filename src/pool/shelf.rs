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

/// Zeroed spares by size and trust domain, fresh ones apart. A file's size is sealed, so only a request for exactly that size can use
/// it; camera and graphics ask for the same few sizes over and over.
#[derive(Debug)]
pub struct Shelf<M> {
    limits: ShelfLimits,
    classes: BTreeMap<u64, Class<M>>,
    bytes: u64,
    spares: usize,
}

/// Spares of one size, oldest first within each queue.
#[derive(Debug)]
struct Class<M> {
    /// By who held them; no queue is empty.
    held: HashMap<TrustDomain, VecDeque<Shelved<M>>>,
    /// Those that no client has held.
    fresh: VecDeque<Shelved<M>>,
}

impl<M> Default for Class<M> {
    fn default() -> Self {
        Self { held: HashMap::new(), fresh: VecDeque::new() }
    }
}

impl<M> Class<M> {
    fn put(&mut self, spare: Spare<M, Zeroed>, since: Duration) {
        let queue = match spare.domain() {
            Some(domain) => self.held.entry(domain.clone()).or_default(),
            None => &mut self.fresh,
        };
        queue.push_back(Shelved { spare, since });
    }

    /// The oldest spare of a domain; a fresh one for `None`.
    fn pop(&mut self, domain: Option<&TrustDomain>) -> Option<Spare<M, Zeroed>> {
        let Some(domain) = domain else { return Some(self.fresh.pop_front()?.spare) };
        let queue = self.held.get_mut(domain)?;
        let taken = queue.pop_front()?.spare;
        if queue.is_empty() {
            self.held.remove(domain);
        }
        Some(taken)
    }

    fn queues(&self) -> impl Iterator<Item = (Option<&TrustDomain>, &VecDeque<Shelved<M>>)> {
        let held = self.held.iter().map(|(domain, queue)| (Some(domain), queue));
        held.chain(std::iter::once((None, &self.fresh)))
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.fresh.is_empty()
    }
}

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

    /// Whether a spare of this size would be kept.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.spares < self.limits.spares && bytes <= self.limits.bytes.saturating_sub(self.bytes)
    }

    /// Puts a spare there at time `now`.
    ///
    /// # Errors
    /// The spare itself, if the shelf is full.
    pub fn put(&mut self, spare: Spare<M, Zeroed>, now: Duration) -> Result<(), Spare<M, Zeroed>> {
        let bytes = spare.bytes().get();
        if !self.has_room(bytes) {
            return Err(spare);
        }
        self.bytes += bytes;
        self.spares += 1;
        self.classes.entry(bytes).or_default().put(spare, now);
        Ok(())
    }

    /// Takes spares until one of `bytes` bytes would be kept: the oldest of whichever domain has the most bytes here, so
    /// that no client displaces what others have with more than its share. None if that could not make room.
    pub fn make_room(&mut self, bytes: u64) -> Vec<Spare<M, Zeroed>> {
        if bytes > self.limits.bytes || self.limits.spares == 0 {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while !self.has_room(bytes) {
            let Some(spare) = self.take_oldest_of_the_richest() else { break };
            taken.push(spare);
        }
        taken
    }

    fn take_oldest_of_the_richest(&mut self) -> Option<Spare<M, Zeroed>> {
        struct Holding {
            bytes: u64,
            /// When its oldest spare was put here, and that one's size.
            oldest: (Duration, u64),
        }
        let mut holdings = HashMap::<Option<&TrustDomain>, Holding>::new();
        for (bytes, class) in &self.classes {
            for (domain, queue) in class.queues() {
                let Some(front) = queue.front() else { continue };
                let oldest = (front.since, *bytes);
                let holding = holdings.entry(domain).or_insert(Holding { bytes: 0, oldest });
                holding.bytes += bytes * queue.len() as u64;
                holding.oldest = holding.oldest.min(oldest);
            }
        }
        let key = |holding: &Holding| (holding.bytes, std::cmp::Reverse(holding.oldest));
        let (domain, holding) = holdings.into_iter().max_by_key(|(_, holding)| key(holding))?;
        let (domain, bytes) = (domain.cloned(), holding.oldest.1);
        self.pop(bytes, domain.as_ref())
    }

    /// Takes the oldest spare of exactly this size that `domain` may have: one of its own, else a fresh one.
    pub fn take(&mut self, bytes: u64, domain: &TrustDomain) -> Option<Spare<M, Zeroed>> {
        self.pop(bytes, Some(domain)).or_else(|| self.pop(bytes, None))
    }

    /// Takes the oldest spare of the smallest size that `domain` has held and that `is_wanted`.
    pub fn take_where(
        &mut self,
        domain: &TrustDomain,
        is_wanted: impl Fn(u64, &M) -> bool,
    ) -> Option<Spare<M, Zeroed>> {
        let (bytes, at) = self.classes.iter().find_map(|(bytes, class)| {
            let queue = class.held.get(domain)?;
            let at = queue.iter().position(|shelved| is_wanted(*bytes, shelved.spare.memory()))?;
            Some((*bytes, at))
        })?;
        let class = self.classes.get_mut(&bytes)?;
        let queue = class.held.get_mut(domain)?;
        let taken = queue.remove(at)?.spare;
        if queue.is_empty() {
            class.held.remove(domain);
        }
        self.taken(bytes);
        Some(taken)
    }

    fn pop(&mut self, bytes: u64, domain: Option<&TrustDomain>) -> Option<Spare<M, Zeroed>> {
        let class = self.classes.get_mut(&bytes)?;
        let taken = class.pop(domain)?;
        self.taken(bytes);
        Some(taken)
    }

    /// One of this size is gone.
    fn taken(&mut self, bytes: u64) {
        if self.classes.get(&bytes).is_some_and(Class::is_empty) {
            self.classes.remove(&bytes);
        }
        self.bytes -= bytes;
        self.spares -= 1;
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
        let queues = class.queues().filter(|(_, queue)| !queue.is_empty());
        let (domain, _) = queues.min_by_key(|(_, queue)| age(queue))?;
        let (bytes, domain) = (*bytes, domain.cloned());
        self.pop(bytes, domain.as_ref())
    }

    /// Takes all spares that were put there before `deadline`.
    pub fn expire(&mut self, deadline: Duration) -> Vec<Spare<M, Zeroed>> {
        let mut stale = Vec::new();
        for (bytes, class) in &self.classes {
            for (domain, queue) in class.queues() {
                let old = queue.iter().take_while(|shelved| shelved.since < deadline).count();
                stale.extend(std::iter::repeat_n((*bytes, domain.cloned()), old));
            }
        }
        stale.into_iter().filter_map(|(bytes, domain)| self.pop(bytes, domain.as_ref())).collect()
    }

    /// Fresh spares of this size.
    pub fn fresh(&self, bytes: u64) -> usize {
        self.classes.get(&bytes).map_or(0, |class| class.fresh.len())
    }

    /// What is there, in no order.
    pub fn memories(&self) -> impl Iterator<Item = &M> {
        let queues = self.classes.values().flat_map(Class::queues);
        queues.flat_map(|(_, queue)| queue).map(|shelved| shelved.spare.memory())
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
