// SPDX-License-Identifier: Apache-2.0
//! Buffers joined from the blocks that lie on a heap's shelf, and from new ones: the order pools of ION's system heap.
//!
//! A buffer stays whole on the shelf, with its dma-buf, for a request of exactly its size. What is asked for in another
//! size takes the domain's own single blocks, the largest first, takes a buffer apart for more of the size that makes up
//! its bulk, and has new blocks for the rest. What is left of a buffer that was taken apart lies there by block size.

use super::stock::{Stock, Stored};
use crate::pool::{Assembly, Spare, TrustDomain, Zeroed};
use crate::source::blocks::{Block, BlockSource};
use crate::source::{Memory, Source};
use crate::units::BackedBytes;
use std::io;
use std::time::Duration;

/// A clean block with the domain that it must stay in.
type CleanBlock = Spare<Block, Zeroed>;

/// Whose shelf a buffer is joined from, and when.
pub(super) struct Joiner<'a> {
    pub(super) source: &'a BlockSource,
    pub(super) stock: &'a Stock,
    pub(super) domain: &'a TrustDomain,
    pub(super) now: Duration,
}

impl Joiner<'_> {
    /// A buffer of `bytes` bytes. On failure the blocks lie on the shelf again.
    ///
    /// # Errors
    /// The source's.
    pub(super) fn join(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        // New ones are neighbours, and so few ranges that the device takes them.
        let Some((blocks, new)) = self.gather(bytes) else { return self.source.create(bytes) };
        match self.source.export(blocks.iter().map(Spare::memory)) {
            Ok(dma_buf) => {
                if new == 0 && Stock::keeps(bytes) {
                    self.stock.count_joined();
                }
                Ok(self.source.memory(blocks.into_iter().map(Spare::into_memory).collect(), Some(dma_buf)))
            }
            Err(error) => {
                // New ones may have no pages, which the shelf would count.
                self.give_back(blocks.into_iter().filter(|block| block.domain().is_some()));
                Err(error)
            }
        }
    }

    /// The blocks of a buffer, and how many of them are new; `None` if they lie too scattered to be joined.
    fn gather(&self, bytes: BackedBytes) -> Option<(Vec<CleanBlock>, usize)> {
        let sizes = self.source.sizes();
        let bulk = sizes.largest_within(bytes.get());
        let (mut assembly, mut new) = (Assembly::new(sizes, bytes, self.source.max_blocks()), 0);
        loop {
            let wanted = match assembly.wanted() {
                Ok(Some(wanted)) => wanted.bytes,
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
                assembly.add(Spare::fresh(block, wanted));
            } else {
                // A piece that long may be all that is missing.
                assembly.go_smaller();
            }
        }
    }

    /// A block from the shelf; `apart` if a larger buffer may be taken apart for it.
    fn pooled(&self, bytes: BackedBytes, apart: bool) -> Option<CleanBlock> {
        loop {
            if let Some(spare) = self.stock.take_block(bytes.get(), self.domain) {
                let mut blocks = parts(spare);
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
            let whole = self.stock.take_with_block(bytes.get(), self.domain)?;
            self.give_back(parts(whole));
        }
    }

    /// Puts blocks on the shelf, each by itself.
    fn give_back(&self, blocks: impl IntoIterator<Item = CleanBlock>) {
        let stored = |block| Stored { memory: self.source.memory(vec![block], None).into(), watch: None };
        let spares = blocks.into_iter().map(|block: CleanBlock| block.map(stored));
        self.stock.put_back(spares, self.now);
    }
}

/// The blocks of a spare, which is no more.
fn parts(spare: Spare<Stored, Zeroed>) -> Vec<CleanBlock> {
    spare.map(|stored| stored.memory.take_apart()).split(Block::bytes).collect()
}
