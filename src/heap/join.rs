// SPDX-License-Identifier: Apache-2.0
//! Joins buffers from pooled and new blocks: the order pools of ION's system heap.
//!
//! A buffer stays whole in the pool, with its dma-buf, for a request of exactly its size. A request
//! of another size uses the trust domain's own single blocks, the largest first, splits a pooled
//! buffer for more blocks of the size that makes up most of the request, and makes new blocks for
//! the rest. Leftover blocks of a split buffer are pooled by block size.

use super::pool::{Pool, Stored};
use crate::pool::{Assembly, Clean, Pooled, TrustDomain};
use crate::source::blocks::{Block, BlockSource};
use crate::source::{Memory, Source, SourceError};
use crate::units::{Access, BackedBytes};
use std::time::Duration;

/// A clean block with its trust domain.
type CleanBlock = Pooled<Block, Clean>;

/// A joined buffer.
pub struct Joined {
    /// Its memory.
    pub memory: Box<dyn Memory>,
    /// Whether it consists of pooled blocks only.
    pub is_pooled: bool,
}

/// Joins buffers of one heap for one trust domain.
pub(super) struct Joiner<'a> {
    pub(super) source: &'a BlockSource,
    pub(super) pool: &'a Pool,
    pub(super) domain: &'a TrustDomain,
    pub(super) now: Duration,
}

impl Joiner<'_> {
    /// Returns a buffer of `bytes` bytes. On failure its blocks are pooled again.
    ///
    /// # Errors
    /// The source's.
    pub(super) fn join(&self, bytes: BackedBytes) -> Result<Joined, SourceError> {
        let Some((blocks, new)) = self.gather(bytes) else {
            // New blocks are adjacent: so few ranges that the device accepts them.
            return Ok(Joined {
                memory: self.source.create(bytes, Access::ReadWrite, "")?,
                is_pooled: false,
            });
        };
        match self.source.export(blocks.iter().map(Pooled::memory)) {
            Ok(dma_buf) => {
                let blocks = blocks.into_iter().map(Pooled::into_memory).collect();
                Ok(Joined { memory: self.source.memory(blocks, Some(dma_buf)), is_pooled: new == 0 })
            }
            Err(error) => {
                // New blocks may have no pages, but the pool would count their bytes.
                self.give_back(blocks.into_iter().filter(|block| block.domain().is_some()));
                Err(error.into())
            }
        }
    }

    /// Returns the blocks of a buffer, and the number of new ones; `None` if they are too scattered
    /// to be joined.
    fn gather(&self, bytes: BackedBytes) -> Option<(Vec<CleanBlock>, usize)> {
        let sizes = self.source.sizes();
        let bulk = sizes.largest_within(bytes.get());
        let (mut assembly, mut new) = (Assembly::new(sizes, bytes, self.source.max_blocks()), 0);
        loop {
            let wanted = match assembly.wanted() {
                Ok(Some(wanted)) => wanted,
                Ok(None) => return Some((assembly.into_blocks(), new)),
                Err(_) => {
                    self.give_back(assembly.into_blocks());
                    return None;
                }
            };
            if let Some(block) = self.pooled(wanted, bulk == Some(wanted)) {
                assembly.add(block);
            } else if let Ok(block) = self.source.new_block(wanted) {
                new += 1;
                assembly.add(Pooled::fresh(block, wanted));
            } else {
                // Only a free range of this length may be missing.
                assembly.go_smaller();
            }
        }
    }

    /// Takes a block from the pool; if `apart`, it may split a larger buffer.
    fn pooled(&self, bytes: BackedBytes, apart: bool) -> Option<CleanBlock> {
        loop {
            if let Some(pooled) = self.pool.take_block(bytes.get(), self.domain) {
                let mut blocks = parts(pooled);
                // A buffer of this size may consist of smaller blocks.
                match (blocks.pop(), blocks.is_empty()) {
                    (Some(block), true) if block.bytes() == bytes => return Some(block),
                    (last, _) => self.give_back(blocks.into_iter().chain(last)),
                }
                continue;
            }
            if !apart {
                return None;
            }
            let whole = self.pool.take_with_block(bytes.get(), self.domain)?;
            self.give_back(parts(whole));
        }
    }

    /// Pools blocks, each separately.
    fn give_back(&self, blocks: impl IntoIterator<Item = CleanBlock>) {
        let stored = |block| Stored { memory: self.source.memory(vec![block], None).into(), watch: None };
        let blocks = blocks.into_iter().map(|block: CleanBlock| block.map(stored));
        self.pool.put_back(blocks, self.now);
    }
}

/// Splits a buffer and returns its blocks.
fn parts(buffer: Pooled<Stored, Clean>) -> Vec<CleanBlock> {
    // Its dma-buf is dropped: from then on devices see the earlier writes.
    buffer.memory().memory.cleaned();
    buffer.map(|stored| stored.memory.take_apart()).split(Block::bytes).collect()
}
