// SPDX-License-Identifier: Apache-2.0
//! Joins blocks of a few sizes to one buffer, as ION's system heap does with its page orders.
//!
//! A heap that can join keeps single blocks in its pool, by block size and trust domain, instead of
//! whole buffers. An [`Assembly`] computes the size of the next block. Its user takes that block
//! from the pool, or from the source, and holds no lock in between.

use super::pooled::{Clean, Pooled};
use crate::units::{BackedBytes, PageSize, RequestedBytes};

/// The sizes of a heap's blocks in bytes, largest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSizes(Vec<BackedBytes>);

impl BlockSizes {
    /// Returns blocks of `orders`, each a power of two of pages, largest first as in a
    /// configuration (`order` of `ion_page_pool`). `None` if there is no order, or if a block's
    /// size exceeds 64 bits.
    pub fn new(orders: &[u32], page: PageSize) -> Option<Self> {
        let bytes = |order: &u32| {
            let bytes = 1u64.checked_shl(*order)?.checked_mul(page.bytes())?;
            RequestedBytes(i64::try_from(bytes).ok()?).round_up(1).ok()
        };
        let sizes: Vec<_> = orders.iter().map(bytes).collect::<Option<_>>()?;
        (!sizes.is_empty()).then_some(Self(sizes))
    }

    /// Returns the largest block of at most `bytes` bytes; `None` if all are larger.
    pub fn largest_within(&self, bytes: u64) -> Option<BackedBytes> {
        self.0.iter().copied().find(|size| size.get() <= bytes)
    }

    /// Returns the bytes of the smallest block: every buffer is a multiple of it.
    pub fn granularity(&self) -> u64 {
        self.0.last().map_or(1, |size| size.get())
    }
}

/// Reason why a buffer cannot be joined: no block of the smallest size is available, or it would
/// need more blocks than can be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// Even the smallest blocks are used up.
    #[error("no block is left of the {missing} bytes that are missing")]
    OutOfBlocks {
        /// Bytes of the buffer for which there is no block.
        missing: u64,
    },
    /// Memory is too scattered.
    #[error("the buffer would need {needed} blocks, but at most {limit} can be joined")]
    TooScattered {
        /// The fewest blocks that it would need.
        needed: u64,
        /// Most blocks that can be joined.
        limit: u64,
    },
}

/// A buffer that is being joined from blocks, the largest first. Sizes only decrease, as in ION:
/// once blocks of a size are used up, it needs smaller ones.
#[derive(Debug)]
pub struct Assembly<'a, B> {
    sizes: &'a [BackedBytes],
    remaining: u64,
    blocks: Vec<B>,
    limit: u64,
}

impl<'a, B> Assembly<'a, B> {
    /// Begins a buffer of `bytes` bytes, a multiple of the granularity, of at most `limit` blocks.
    pub fn new(sizes: &'a BlockSizes, bytes: BackedBytes, limit: u64) -> Self {
        debug_assert!(
            bytes.get().is_multiple_of(sizes.granularity()),
            "heaps round sizes up to their granularity"
        );
        Self { sizes: &sizes.0, remaining: bytes.get(), blocks: Vec::new(), limit }
    }

    /// Returns the size of the next block; `None` if the buffer is complete.
    ///
    /// # Errors
    /// If it cannot be completed. Its blocks stay in it, for [`Assembly::into_blocks`].
    pub fn wanted(&mut self) -> Result<Option<BackedBytes>, Incomplete> {
        if self.remaining == 0 {
            return Ok(None);
        }
        while let Some((&bytes, smaller)) = self.sizes.split_first() {
            if bytes.get() > self.remaining {
                self.sizes = smaller;
                continue;
            }
            let needed = self.blocks.len() as u64 + self.fewest(bytes);
            if needed > self.limit {
                return Err(Incomplete::TooScattered { needed, limit: self.limit });
            }
            return Ok(Some(bytes));
        }
        Err(Incomplete::OutOfBlocks { missing: self.remaining })
    }

    /// Returns the fewest blocks of at most `largest` bytes each that the rest can consist of.
    fn fewest(&self, largest: BackedBytes) -> u64 {
        let (mut blocks, mut rest) = (0, self.remaining);
        for bytes in self.sizes.iter().filter(|bytes| **bytes <= largest).map(|bytes| bytes.get()) {
            blocks += rest / bytes;
            rest %= bytes;
        }
        blocks
    }

    /// Adds a block of the wanted size.
    pub fn add(&mut self, block: B) {
        let wanted = self.sizes.first().map_or(0, |bytes| bytes.get());
        debug_assert!(wanted <= self.remaining, "a block is added after it was wanted");
        self.remaining -= wanted;
        self.blocks.push(block);
    }

    /// Uses only smaller blocks from now on, because there is none of the wanted size.
    pub fn go_smaller(&mut self) {
        self.sizes = self.sizes.get(1..).unwrap_or_default();
    }

    /// Returns the blocks in their order in the buffer; the blocks so far if it is not complete.
    pub fn into_blocks(self) -> Vec<B> {
        self.blocks
    }
}

impl<B> Pooled<Vec<B>, Clean> {
    /// Returns the blocks of a clean buffer, each clean memory of the same domain, for the pool.
    pub fn split(self, bytes: impl Fn(&B) -> BackedBytes) -> impl Iterator<Item = Pooled<B, Clean>> {
        let domain = self.domain().cloned();
        self.into_memory().into_iter().map(move |block| {
            let bytes = bytes(&block);
            Pooled::part(block, bytes, domain.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::TrustDomain;
    use super::super::free_list::FreeLists;
    use super::*;
    use crate::units::Uid;
    use proptest::prelude::*;
    use std::time::Duration;

    const KIB: u64 = 1 << 10;

    fn sizes() -> BlockSizes {
        BlockSizes::new(&[8, 4, 0], PageSize::new(4 * KIB).expect("a power of two")).expect("orders")
    }

    fn bytes(amount: u64) -> BackedBytes {
        RequestedBytes(i64::try_from(amount).expect("small")).round_up(4 * KIB).expect("valid")
    }

    /// A block: its origin and its bytes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Block {
        Pooled(u64),
        New(u64),
    }

    impl Block {
        fn bytes(self) -> u64 {
            let (Self::Pooled(bytes) | Self::New(bytes)) = self;
            bytes
        }
    }

    fn pooled(size: u64, uid: u32) -> Pooled<Block, Clean> {
        Pooled::part(Block::Pooled(size), bytes(size), Some(TrustDomain::Uid(Uid(uid))))
    }

    /// Joins a buffer from the lists, and from a source that has this many new blocks of each size
    /// left.
    fn assemble(
        total: u64,
        limit: u64,
        lists: &mut FreeLists<Block>,
        uid: u32,
        new: &mut [(u64, u32)],
    ) -> Result<Vec<Block>, (Incomplete, Vec<Block>)> {
        let sizes = sizes();
        let mut assembly = Assembly::new(&sizes, bytes(total), limit);
        loop {
            let wanted = match assembly.wanted() {
                Ok(Some(wanted)) => wanted,
                Ok(None) => return Ok(assembly.into_blocks()),
                Err(why) => return Err((why, assembly.into_blocks())),
            };
            let wanted = wanted.get();
            let left = new.iter_mut().find(|(size, left)| *size == wanted && *left > 0);
            match lists.take(wanted, &TrustDomain::Uid(Uid(uid))).map(Pooled::into_memory) {
                Some(block) => assembly.add(block),
                None if left.is_some() => {
                    left.expect("just seen").1 -= 1;
                    assembly.add(Block::New(wanted));
                }
                None => assembly.go_smaller(),
            }
        }
    }

    fn lists(blocks: &[(u64, u32)]) -> FreeLists<Block> {
        let mut lists = FreeLists::default();
        for (size, uid) in blocks {
            lists.put(pooled(*size, *uid), Duration::ZERO);
        }
        lists
    }

    #[test]
    fn large_blocks_come_first_and_the_pool_before_new_ones() {
        let mut lists = lists(&[(1024 * KIB, 1), (4 * KIB, 1), (4 * KIB, 1), (64 * KIB, 2)]);
        let mut new = [(1024 * KIB, 1), (64 * KIB, 1), (4 * KIB, 1)];
        let blocks = assemble(2 * 1024 * KIB + 64 * KIB + 12 * KIB, 1024, &mut lists, 1, &mut new);
        let (megabyte, pages) = (1024 * KIB, 4 * KIB);
        let expected = [
            Block::Pooled(megabyte),
            Block::New(megabyte),
            Block::New(64 * KIB),
            Block::Pooled(pages),
            Block::Pooled(pages),
            Block::New(pages),
        ];
        assert_eq!(blocks.expect("complete"), expected);
        assert_eq!(lists.bytes(), 64 * KIB, "another domain's block stays");
    }

    #[test]
    fn a_size_that_ran_out_is_replaced_by_smaller_blocks() {
        let blocks = assemble(1024 * KIB, 1024, &mut lists(&[]), 1, &mut [(64 * KIB, 15), (4 * KIB, 16)]);
        let blocks = blocks.expect("complete");
        assert_eq!(blocks.iter().filter(|block| block.bytes() == 64 * KIB).count(), 15);
        assert_eq!(blocks.len(), 31);
    }

    #[test]
    fn an_incomplete_assembly_gives_its_blocks_back() {
        let (why, blocks) = assemble(72 * KIB, 1024, &mut lists(&[]), 1, &mut [(64 * KIB, 1), (4 * KIB, 1)])
            .expect_err("4 KiB short");
        assert_eq!(why, Incomplete::OutOfBlocks { missing: 4 * KIB });
        assert_eq!(blocks, [Block::New(64 * KIB), Block::New(4 * KIB)]);
    }

    #[test]
    fn more_blocks_than_can_be_joined_are_refused_before_they_are_made() {
        let mut new = [(64 * KIB, 0), (4 * KIB, 1000)];
        let (why, _) = assemble(1024 * KIB, 255, &mut lists(&[]), 1, &mut new).expect_err("256 pages");
        assert_eq!(why, Incomplete::TooScattered { needed: 256, limit: 255 });
        assert_eq!(new[1].1, 1000);
    }

    #[test]
    fn a_clean_buffer_goes_back_as_its_blocks() {
        let domain = TrustDomain::Uid(Uid(7));
        let buffer = Pooled::released(
            vec![Block::New(64 * KIB), Block::New(4 * KIB)],
            bytes(68 * KIB),
            domain.clone(),
        );
        let clean = buffer.clean(Ok::<_, ()>).expect("cleaned");
        let mut lists = lists(&[]);
        for block in clean.split(|block| bytes(block.bytes())) {
            lists.put(block, Duration::ZERO);
        }
        assert_eq!(lists.bytes(), 68 * KIB);
        assert!(lists.take(64 * KIB, &domain).is_some() && lists.take(4 * KIB, &domain).is_some());
    }

    #[test]
    fn orders_are_counted_in_pages_of_the_machine() {
        let page = PageSize::new(16 * KIB).expect("a power of two");
        assert_eq!(BlockSizes::new(&[4, 1], page).expect("orders").granularity(), 32 * KIB);
        assert_eq!(BlockSizes::new(&[], page), None);
        assert_eq!(BlockSizes::new(&[63], page), None);
    }

    proptest! {
        /// The model: for each size from the largest, it uses as many blocks as fit and exist,
        /// first the domain's own pooled blocks.
        #[test]
        fn every_buffer_agrees_with_the_greedy_model(
            pages in 1u64..900,
            limit in 1u64..400,
            pool in prop::collection::vec((0usize..3, 0u32..2), 0..40),
            new in prop::array::uniform3(0u32..40),
        ) {
            let by_size = [1024 * KIB, 64 * KIB, 4 * KIB];
            let pool: Vec<_> = pool.into_iter().map(|(size, uid)| (by_size[size], uid)).collect();
            let mut lists = lists(&pool);
            let mut left = [(by_size[0], new[0]), (by_size[1], new[1]), (by_size[2], new[2])];
            let outcome = assemble(pages * 4 * KIB, limit, &mut lists, 0, &mut left);

            let (mut model, mut rest) = (Vec::new(), pages * 4 * KIB);
            for (size, new) in by_size.into_iter().zip(new) {
                let own = pool.iter().filter(|(bytes, uid)| *bytes == size && *uid == 0);
                let pooled = own.map(|_| Block::Pooled(size));
                let all = pooled.chain((0..new).map(|_| Block::New(size)));
                model.extend(all.take(usize::try_from(rest / size).expect("small")));
                rest = pages * 4 * KIB - model.iter().map(|block| block.bytes()).sum::<u64>();
            }
            let taken = match outcome {
                Ok(blocks) => {
                    prop_assert_eq!((&blocks, rest), (&model, 0));
                    prop_assert!(blocks.len() as u64 <= limit);
                    blocks
                }
                Err((Incomplete::OutOfBlocks { missing }, blocks)) => {
                    prop_assert_eq!((missing, &blocks), (rest, &model));
                    blocks
                }
                Err((Incomplete::TooScattered { needed, .. }, blocks)) => {
                    prop_assert!(needed > limit && blocks.len() as u64 <= limit);
                    prop_assert!(rest > 0 || model.len() as u64 > limit);
                    prop_assert!(model.starts_with(&blocks));
                    blocks
                }
            };
            let from_pool: u64 =
                taken.iter().filter(|block| matches!(block, Block::Pooled(_))).map(|block| block.bytes()).sum();
            prop_assert_eq!(lists.bytes() + from_pool, pool.iter().map(|(size, _)| size).sum::<u64>());
        }
    }
}
