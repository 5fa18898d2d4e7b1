// SPDX-License-Identifier: Apache-2.0
//! Free lists: clean memory, ready for requests. ION's `ion_page_pool`, for buffers of any exact
//! size.

use super::contents::Holding;
use super::pooled::{Clean, Pooled, TrustDomain};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Clean memory by size and trust domain, with separate lists for fresh memory. A file's size is
/// sealed, so only a request for exactly that size can use it. Camera and graphics stacks
/// repeatedly request the same few sizes.
#[derive(Debug)]
pub struct FreeLists<M> {
    classes: BTreeMap<u64, Class<M>>,
    bytes: u64,
    len: usize,
}

/// Memory of one size, the oldest first within each queue.
#[derive(Debug)]
struct Class<M> {
    /// By the domain that held it last; no queue is empty.
    held: HashMap<TrustDomain, VecDeque<Listed<M>>>,
    /// Memory that no client has held.
    fresh: VecDeque<Listed<M>>,
}

impl<M> Default for Class<M> {
    fn default() -> Self {
        Self { held: HashMap::new(), fresh: VecDeque::new() }
    }
}

impl<M> Class<M> {
    fn put(&mut self, memory: Pooled<M, Clean>, since: Duration) {
        let queue = match memory.domain() {
            Some(domain) => self.held.entry(domain.clone()).or_default(),
            None => &mut self.fresh,
        };
        queue.push_back(Listed { memory, since });
    }

    /// Takes the oldest memory of a domain; fresh memory for `None`.
    fn pop(&mut self, domain: Option<&TrustDomain>) -> Option<Pooled<M, Clean>> {
        let Some(domain) = domain else { return Some(self.fresh.pop_front()?.memory) };
        let queue = self.held.get_mut(domain)?;
        let taken = queue.pop_front()?.memory;
        if queue.is_empty() {
            self.held.remove(domain);
        }
        Some(taken)
    }

    fn queues(&self) -> impl Iterator<Item = (Option<&TrustDomain>, &VecDeque<Listed<M>>)> {
        let held = self.held.iter().map(|(domain, queue)| (Some(domain), queue));
        held.chain(std::iter::once((None, &self.fresh)))
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.fresh.is_empty()
    }
}

#[derive(Debug)]
struct Listed<M> {
    memory: Pooled<M, Clean>,
    /// Time since boot when it was added.
    since: Duration,
}

impl<M> Default for FreeLists<M> {
    fn default() -> Self {
        Self { classes: BTreeMap::new(), bytes: 0, len: 0 }
    }
}

impl<M> FreeLists<M> {
    /// Adds clean memory to its list at time `now` (since boot).
    pub fn put(&mut self, memory: Pooled<M, Clean>, now: Duration) {
        let bytes = memory.bytes().get();
        self.bytes += bytes;
        self.len += 1;
        self.classes.entry(bytes).or_default().put(memory, now);
    }

    /// Adds the memory of each domain to `holdings`; fresh memory counts under `None`.
    pub fn add_holdings<'a>(&'a self, holdings: &mut HashMap<Option<&'a TrustDomain>, Holding>) {
        for (bytes, class) in &self.classes {
            for (domain, queue) in class.queues().filter(|(_, queue)| !queue.is_empty()) {
                holdings.entry(domain).or_default().add(*bytes, queue.len() as u64);
            }
        }
    }

    /// Takes the oldest memory of a trust domain, of any size; fresh memory for `None`.
    pub fn take_oldest(&mut self, domain: Option<&TrustDomain>) -> Option<Pooled<M, Clean>> {
        let (_, bytes) = self.oldest(domain)?;
        self.pop(bytes, domain)
    }

    /// Returns when the oldest memory of a domain was added (since boot); of fresh memory for
    /// `None`.
    pub fn oldest_since(&self, domain: Option<&TrustDomain>) -> Option<Duration> {
        Some(self.oldest(domain)?.0)
    }

    /// Returns the time and the size of the oldest memory of a domain.
    fn oldest(&self, domain: Option<&TrustDomain>) -> Option<(Duration, u64)> {
        let fronts = self.classes.iter().filter_map(|(bytes, class)| {
            let queue = match domain {
                Some(domain) => class.held.get(domain)?,
                None => &class.fresh,
            };
            Some((queue.front()?.since, *bytes))
        });
        fronts.min()
    }

    /// Takes the oldest memory of exactly `bytes` bytes that `domain` may have: its own, else fresh
    /// memory.
    pub fn take(&mut self, bytes: u64, domain: &TrustDomain) -> Option<Pooled<M, Clean>> {
        self.pop(bytes, Some(domain)).or_else(|| self.pop(bytes, None))
    }

    /// Takes the oldest memory of the smallest size that `domain` has held and that `is_wanted`.
    pub fn take_where(
        &mut self,
        domain: &TrustDomain,
        is_wanted: impl Fn(u64, &M) -> bool,
    ) -> Option<Pooled<M, Clean>> {
        let (bytes, at) = self.classes.iter().find_map(|(bytes, class)| {
            let queue = class.held.get(domain)?;
            let at = queue.iter().position(|listed| is_wanted(*bytes, listed.memory.memory()))?;
            Some((*bytes, at))
        })?;
        let class = self.classes.get_mut(&bytes)?;
        let queue = class.held.get_mut(domain)?;
        let taken = queue.remove(at)?.memory;
        if queue.is_empty() {
            class.held.remove(domain);
        }
        self.taken(bytes);
        Some(taken)
    }

    fn pop(&mut self, bytes: u64, domain: Option<&TrustDomain>) -> Option<Pooled<M, Clean>> {
        let class = self.classes.get_mut(&bytes)?;
        let taken = class.pop(domain)?;
        self.taken(bytes);
        Some(taken)
    }

    /// Subtracts memory of `bytes` bytes that was taken.
    fn taken(&mut self, bytes: u64) {
        if self.classes.get(&bytes).is_some_and(Class::is_empty) {
            self.classes.remove(&bytes);
        }
        self.bytes -= bytes;
        self.len -= 1;
    }

    /// Removes memory to return to the kernel until it has at least `bytes` bytes, all for 0: the
    /// largest first, among equals the oldest (`ion_page_pool_shrink`).
    pub fn shrink(&mut self, bytes: u64) -> Vec<Pooled<M, Clean>> {
        let (mut taken, mut total) = (Vec::new(), 0);
        while bytes == 0 || total < bytes {
            let Some(memory) = self.take_largest() else { break };
            total += memory.bytes().get();
            taken.push(memory);
        }
        taken
    }

    fn take_largest(&mut self) -> Option<Pooled<M, Clean>> {
        let (bytes, class) = self.classes.last_key_value()?;
        let age = |queue: &VecDeque<Listed<M>>| queue.front().map(|listed| listed.since);
        let queues = class.queues().filter(|(_, queue)| !queue.is_empty());
        let (domain, _) = queues.min_by_key(|(_, queue)| age(queue))?;
        let (bytes, domain) = (*bytes, domain.cloned());
        self.pop(bytes, domain.as_ref())
    }

    /// Removes all memory that was added before `deadline` (since boot).
    pub fn expire(&mut self, deadline: Duration) -> Vec<Pooled<M, Clean>> {
        let mut stale = Vec::new();
        for (bytes, class) in &self.classes {
            for (domain, queue) in class.queues() {
                let old = queue.iter().take_while(|listed| listed.since < deadline).count();
                stale.extend(std::iter::repeat_n((*bytes, domain.cloned()), old));
            }
        }
        stale.into_iter().filter_map(|(bytes, domain)| self.pop(bytes, domain.as_ref())).collect()
    }

    /// Returns the number of fresh buffers of this size.
    pub fn fresh(&self, bytes: u64) -> usize {
        self.classes.get(&bytes).map_or(0, |class| class.fresh.len())
    }

    /// Returns all memory on the lists, in no order.
    pub fn memories(&self) -> impl Iterator<Item = &M> {
        let queues = self.classes.values().flat_map(Class::queues);
        queues.flat_map(|(_, queue)| queue).map(|listed| listed.memory.memory())
    }

    /// Returns the bytes on the lists; all are reclaimable at any time.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of buffers and blocks on the lists.
    pub fn len(&self) -> usize {
        self.len
    }
}
