// SPDX-License-Identifier: Apache-2.0
//! ION's system heap in user space: dma-bufs that are joined from blocks of a few sizes. All blocks
//! are ranges of one sparse file. A buffer can be split into its blocks, and blocks of several
//! buffers can be joined to one of another size. Only the dma-buf is new then; the clean pages are
//! reused.
//!
//! # Life of a block
//! It starts as a range of the file without pages. Its first dma-buf allocates them, zeroed. When
//! the block is dropped, its pages return to the kernel and the range is free, so a free range
//! never has pages that a client may have pinned. In between, the pool that keeps the block cleans
//! it, and keeps it in its trust domain.

use super::arena::{ArenaFile, Pages};
use super::export::{Export, Exporter, LateExport, POOLED_NAME, require_writable};
use super::{Capabilities, FileSource, Memory, Opened, Source, SourceError, Unfit};
use crate::pool::{BlockSizes, Layout};
use crate::sys::fd::{Inode, inode};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, Label};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the file whose ranges are the blocks.
const BLOCKS: &str = "anion:blocks";

/// A range of a source's file. Its drop returns its pages to the kernel.
pub struct Block {
    start: u64,
    bytes: BackedBytes,
    file: Arc<ArenaFile>,
}

impl Block {
    /// Returns its size.
    pub fn bytes(&self) -> BackedBytes {
        self.bytes
    }

    fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes.get()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match self.file.expel_pages(self.range()) {
            Ok(()) => self.file.free(self.range()),
            Err(error) => {
                log::error!(
                    "block {:?} stays unused, since its pages cannot be returned: {error}",
                    self.range()
                )
            }
        }
    }
}

/// Makes dma-bufs of blocks.
pub struct BlockSource {
    file: Arc<ArenaFile>,
    inode: Inode,
    exporter: Arc<dyn Exporter>,
    sizes: BlockSizes,
}

impl BlockSource {
    /// Makes a sparse file with `files`, with `room` bytes for blocks of `sizes`. `exporter` makes
    /// dma-bufs of them.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn open(
        files: &dyn FileSource,
        exporter: Arc<dyn Exporter>,
        pages: Arc<dyn Pages>,
        sizes: BlockSizes,
        room: BackedBytes,
    ) -> io::Result<Opened> {
        let file = files.create_file(room, BLOCKS)?;
        let inode = inode(file.fd())?;
        let layout = Layout::OnePiece { alignment: sizes.granularity() };
        let file = Arc::new(ArenaFile::new(file, room.get(), layout, pages));
        let of_files = files.capabilities().exported(exporter.limits().bytes);
        let capabilities = Capabilities { granularity: sizes.granularity(), ..of_files };
        let source = Arc::new(Self { file, inode, exporter, sizes });
        Ok(Opened { blocks: Some(Arc::clone(&source)), ..Opened::new(source, capabilities) })
    }

    /// Returns the sizes of its blocks.
    pub fn sizes(&self) -> &BlockSizes {
        &self.sizes
    }

    /// Returns the most blocks of one buffer.
    pub fn max_blocks(&self) -> u64 {
        self.exporter.limits().ranges
    }

    /// Returns a new block, without pages yet.
    ///
    /// # Errors
    /// If the file has no room.
    pub fn new_block(&self, bytes: BackedBytes) -> Result<Block, SourceError> {
        let start = self.take(bytes)?.start;
        Ok(Block { start, bytes, file: Arc::clone(&self.file) })
    }

    /// Takes a free range, in one piece.
    fn take(&self, bytes: BackedBytes) -> Result<Range<u64>, SourceError> {
        Ok(self.file.take(bytes.get())?.pop().ok_or(io::Error::from(io::ErrorKind::OutOfMemory))?)
    }

    /// Makes a dma-buf of `blocks` in their order. New blocks get their pages.
    ///
    /// # Errors
    /// The device's.
    pub fn export<'a>(&self, blocks: impl Iterator<Item = &'a Block>) -> io::Result<Box<dyn Export>> {
        self.exporter.export(self.file.fd(), &joined(blocks.map(Block::range)))
    }

    /// Returns a buffer of `blocks`, with the dma-buf that [`BlockSource::export`] made of them, if
    /// any.
    pub fn memory(&self, blocks: Vec<Block>, dma_buf: Option<Box<dyn Export>>) -> Box<dyn Memory> {
        let mut sizes: Vec<_> = blocks.iter().map(|block| block.bytes().get()).collect();
        sizes.dedup();
        Box::new(Joined {
            dma_buf: LateExport::new(&self.exporter, dma_buf),
            blocks: Mutex::new(blocks),
            sizes,
            file: Arc::clone(&self.file),
            inode: self.inode,
        })
    }

    /// Splits `range` into blocks, the largest first.
    fn cut(&self, range: Range<u64>) -> Vec<Block> {
        let (mut blocks, mut start) = (Vec::new(), range.start);
        while let Some(bytes) = self.sizes.largest_within(range.end - start) {
            blocks.push(Block { start, bytes, file: Arc::clone(&self.file) });
            start += bytes.get();
        }
        blocks
    }
}

/// Joins adjacent ranges: with fewer ranges the device has less work.
fn joined(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut all = Vec::<Range<u64>>::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => all.push(range),
        }
    }
    all
}

impl Source for BlockSource {
    /// Makes it of new blocks only, which are adjacent.
    fn create(&self, bytes: BackedBytes, _: Access, _: &str) -> Result<Box<dyn Memory>, SourceError> {
        Ok(self.memory(self.cut(self.take(bytes)?), None))
    }
}

/// A buffer of blocks. Fields are dropped in this order: its dma-buf is closed before the blocks.
struct Joined {
    dma_buf: LateExport,
    /// Empty after it is split. No thread makes a system call while it holds the lock.
    blocks: Mutex<Vec<Block>>,
    /// The different sizes of its blocks.
    sizes: Vec<u64>,
    file: Arc<ArenaFile>,
    inode: Inode,
}

impl Joined {
    fn blocks(&self) -> MutexGuard<'_, Vec<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        joined(self.blocks().iter().map(Block::range))
    }

    fn dma_buf(&self) -> io::Result<&dyn Export> {
        self.dma_buf.make(self.file.fd(), || self.ranges())
    }
}

impl Memory for Joined {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        require_writable(access)?;
        self.dma_buf()?.open()
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    /// Returns the identity of the dma-buf, once it is made.
    fn inode(&self) -> Inode {
        self.dma_buf.get().map_or(self.inode, Export::inode)
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.dma_buf.is_idle()
    }

    fn handed_out(&self, label: &Label) {
        self.dma_buf.set_label(label);
    }

    /// Checks only the dma-buf: once it is made, all pages are present.
    fn worth_keeping(&self) -> Result<(), Unfit> {
        match self.dma_buf.get() {
            None => Err(Unfit::Untouched),
            Some(dma_buf) if !dma_buf.is_settled() => Err(Unfit::FencesPending),
            Some(_) => Ok(()),
        }
    }

    fn populate(&self) -> io::Result<()> {
        self.dma_buf()?.set_name(POOLED_NAME);
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        // Without a dma-buf there may be no pages, and no client can have written to it.
        if self.dma_buf.get().is_none() {
            return Ok(Wipe::new(Vec::new()));
        }
        self.dma_buf.set_pooled();
        self.file.wipe(&self.ranges())
    }

    fn forget_mapping(&self) {
        self.file.forget_mapping();
    }

    fn cleaned(&self) {
        self.dma_buf.written();
    }

    fn has_block(&self, bytes: u64) -> bool {
        self.sizes.contains(&bytes)
    }

    fn take_apart(&self) -> Vec<Block> {
        std::mem::take(&mut *self.blocks())
    }
}
