// SPDX-License-Identifier: Apache-2.0
//! ION's system heap in user space: dma-bufs that are joined from blocks of a few sizes, all of them ranges of one sparse
//! file. A buffer can be taken apart into its blocks, and blocks of several make up another, of another size: only the
//! dma-buf is new, the clean pages are not.
//!
//! # Life of a block
//! It is a range of the file without pages. The dma-buf that it first becomes part of brings them, zeroed. When the block
//! is dropped, they go back to the kernel and the range is free, so that a free range never has pages that a client may
//! have pinned. In between, whoever keeps the block sees to it that it is clean and stays in its trust domain.

use super::arena::{ArenaFile, Pages};
use super::export::{Export, Exporter, POOLED_NAME};
use super::{FileSource, Memory, Source, Unfit};
use crate::pool::{BlockSizes, Layout};
use crate::sys::fd::{Inode, inode};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, Label};
use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A range of a source's file. Dropping it gives its pages back to the kernel.
pub struct Block {
    start: u64,
    bytes: BackedBytes,
    file: Arc<ArenaFile>,
}

impl Block {
    /// Its size.
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
                log::error!("block {:?} stays out of use, since its pages stay: {error}", self.range())
            }
        }
    }
}

/// Makes dma-bufs of blocks.
pub struct BlockSource {
    files: Arc<dyn FileSource>,
    file: Arc<ArenaFile>,
    inode: Inode,
    exporter: Arc<dyn Exporter>,
    sizes: BlockSizes,
}

impl BlockSource {
    /// Blocks of `sizes` in a sparse file of `files` with `room` for so many bytes, which `exporter` takes.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(
        files: Arc<dyn FileSource>,
        exporter: Arc<dyn Exporter>,
        pages: Arc<dyn Pages>,
        sizes: BlockSizes,
        room: BackedBytes,
    ) -> io::Result<Self> {
        let file = files.create_file(room)?;
        let inode = inode(file.fd())?;
        let layout = Layout::OnePiece { alignment: sizes.granule() };
        let file = Arc::new(ArenaFile::new(file, room.get(), layout, pages));
        Ok(Self { files, file, inode, exporter, sizes })
    }

    /// The sizes of its blocks.
    pub fn sizes(&self) -> &BlockSizes {
        &self.sizes
    }

    /// Most blocks of one buffer.
    pub fn max_blocks(&self) -> u64 {
        self.exporter.limits().ranges
    }

    /// A new block, without pages yet.
    ///
    /// # Errors
    /// If the file has no room.
    pub fn new_block(&self, bytes: BackedBytes) -> io::Result<Block> {
        let start = self.take(bytes)?.start;
        Ok(Block { start, bytes, file: Arc::clone(&self.file) })
    }

    /// A free range, in one piece.
    fn take(&self, bytes: BackedBytes) -> io::Result<Range<u64>> {
        Ok(self.file.take(bytes.get())?.pop().ok_or(io::ErrorKind::OutOfMemory)?)
    }

    /// A dma-buf of `blocks`, one after the other. New ones get their pages.
    ///
    /// # Errors
    /// The device's.
    pub fn export<'a>(&self, blocks: impl Iterator<Item = &'a Block>) -> io::Result<Box<dyn Export>> {
        self.exporter.export(self.file.fd(), &joined(blocks.map(Block::range)))
    }

    /// A buffer of `blocks`, with the dma-buf that [`BlockSource::export`] made of them if there is one already.
    pub fn memory(&self, blocks: Vec<Block>, dma_buf: Option<Box<dyn Export>>) -> Box<dyn Memory> {
        let mut sizes: Vec<_> = blocks.iter().map(|block| block.bytes().get()).collect();
        sizes.dedup();
        Box::new(Joined {
            dma_buf: dma_buf.map_or_else(OnceLock::new, OnceLock::from),
            blocks: Mutex::new(blocks),
            sizes,
            file: Arc::clone(&self.file),
            inode: self.inode,
            exporter: Arc::clone(&self.exporter),
        })
    }

    /// `range` as blocks, the largest first.
    fn cut(&self, range: Range<u64>) -> Vec<Block> {
        let (mut blocks, mut start) = (Vec::new(), range.start);
        while let Some(bytes) = self.sizes.largest_within(range.end - start) {
            blocks.push(Block { start, bytes, file: Arc::clone(&self.file) });
            start += bytes.get();
        }
        blocks
    }
}

/// Neighbours joined: the fewer ranges, the less the device has to do.
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
    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    fn max_alignment(&self) -> u64 {
        self.files.max_alignment()
    }

    fn granule(&self) -> u64 {
        self.sizes.granule()
    }

    fn max_bytes(&self) -> u64 {
        self.exporter.limits().bytes
    }

    /// The driver makes descriptors for reading and writing, no others.
    fn gives(&self, access: Access) -> bool {
        access == Access::ReadWrite
    }

    fn is_machine_memory(&self) -> bool {
        self.files.is_machine_memory()
    }

    fn blocks(&self) -> Option<&BlockSource> {
        Some(self)
    }

    /// Of new blocks alone, which are neighbours.
    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        Ok(self.memory(self.cut(self.take(bytes)?), None))
    }
}

/// A buffer of blocks.
struct Joined {
    /// Made when the pages are to be present or a client gets it, whichever comes first, and kept. Dropped before the
    /// blocks.
    dma_buf: OnceLock<Box<dyn Export>>,
    /// None once it is taken apart. Nothing is asked of the kernel while they are locked.
    blocks: Mutex<Vec<Block>>,
    /// Sizes of its blocks, each once.
    sizes: Vec<u64>,
    file: Arc<ArenaFile>,
    inode: Inode,
    exporter: Arc<dyn Exporter>,
}

impl Joined {
    fn blocks(&self) -> MutexGuard<'_, Vec<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        joined(self.blocks().iter().map(Block::range))
    }

    fn dma_buf(&self) -> io::Result<&dyn Export> {
        if let Some(dma_buf) = self.dma_buf.get() {
            return Ok(dma_buf.as_ref());
        }
        let ranges = self.ranges();
        let made = self.exporter.export(self.file.fd(), &ranges)?;
        // Of two that are made at once, one goes again.
        Ok(self.dma_buf.get_or_init(|| made).as_ref())
    }
}

impl Memory for Joined {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        match access {
            Access::ReadWrite => self.dma_buf()?.open(),
            Access::ReadOnly => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    /// That of the dma-buf, once there is one.
    fn inode(&self) -> Inode {
        self.dma_buf.get().map_or(self.inode, |dma_buf| dma_buf.inode())
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.dma_buf.get().map_or(Ok(true), |dma_buf| dma_buf.is_idle())
    }

    fn watch(&self, _: &CloseWatcher) -> io::Result<Option<Watch>> {
        Ok(None)
    }

    fn handed_out(&self, label: &Label) {
        if let (Some(dma_buf), Ok(name)) = (self.dma_buf.get(), CString::new(label.as_str())) {
            dma_buf.set_name(&name);
        }
    }

    /// All its pages are there since it has its dma-buf.
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
        // Without a dma-buf there may be no pages, and nobody can have written to them.
        let Some(dma_buf) = self.dma_buf.get() else { return Ok(Wipe::new(Vec::new())) };
        dma_buf.set_name(POOLED_NAME);
        self.file.wipe(&self.ranges())
    }

    fn forget_mapping(&self) {
        self.file.forget_mapping();
    }

    fn cleaned(&self) {
        if let Some(dma_buf) = self.dma_buf.get() {
            dma_buf.written();
        }
    }

    fn has_block(&self, bytes: u64) -> bool {
        self.sizes.contains(&bytes)
    }

    fn take_apart(&self) -> Vec<Block> {
        std::mem::take(&mut *self.blocks())
    }
}
