// SPDX-License-Identifier: Apache-2.0
//! Properties of a source, as data: set when the source is opened, and constant afterwards.

use super::arena::ArenaFile;
use super::blocks::BlockSource;
use super::{FileSource, Source};
use crate::units::Backing;
use std::sync::Arc;

/// Properties of a source while it is open. Bytes are those of one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Kinds of its buffers, in the order in which it tries its memory; at least one.
    pub backings: Vec<Backing>,
    /// Largest alignment in bytes that it guarantees, a power of two. A buffer's memory consists of
    /// physical pieces of at least this size that start at a multiple of it. The kernel maps the
    /// buffer at such a multiple unless the client demands another address.
    pub max_alignment: u64,
    /// Allocation granularity: sizes must be a multiple of this many bytes, a power of two.
    pub granularity: u64,
    /// Size in bytes up to which every buffer is in one physical piece; `u64::MAX` for all sizes.
    pub contiguous_bytes: u64,
    /// Most bytes of one buffer, independently of the free memory; `u64::MAX` if only the free
    /// memory limits it.
    pub max_bytes: u64,
    /// Whether it can make read-only descriptors. Every source can make read-write descriptors.
    pub read_only: bool,
    /// Most descriptors of the service that one buffer uses, at least 1.
    pub descriptors: u64,
    /// Whether it runs short only when the machine does. Otherwise memory of other heaps does not
    /// help.
    pub is_machine_memory: bool,
    /// Whether released memory can be pooled. Memory of the kernel's own heaps is returned to them,
    /// unless the heap's configuration overrides it.
    pub recycles: bool,
}

impl Capabilities {
    /// Returns the capabilities of machine memory in pieces of `piece` bytes. Buffers have any
    /// number of pieces, and each buffer uses one descriptor.
    pub fn of_pieces(backing: Backing, piece: u64) -> Self {
        Self {
            backings: vec![backing],
            max_alignment: piece,
            granularity: piece,
            contiguous_bytes: piece,
            max_bytes: u64::MAX,
            read_only: true,
            descriptors: 1,
            is_machine_memory: true,
            recycles: true,
        }
    }

    /// Returns the capabilities of dma-bufs of up to `max_bytes` bytes that udmabuf makes of these
    /// files. Its descriptors are always readable and writable.
    pub(super) fn exported(self, max_bytes: u64) -> Self {
        Self { backings: vec![Backing::Udmabuf], max_bytes, read_only: false, ..self }
    }

    /// Returns the capabilities of two sources as one, of which `next` is tried after `self`. Both
    /// keep the guarantees for a buffer. A size is accepted, and memory is pooled, if one of them
    /// does so.
    pub(super) fn merge(mut self, next: Self) -> Self {
        self.backings.extend(next.backings);
        Self {
            backings: self.backings,
            max_alignment: self.max_alignment.min(next.max_alignment),
            granularity: self.granularity.max(next.granularity),
            contiguous_bytes: self.contiguous_bytes.min(next.contiguous_bytes),
            max_bytes: self.max_bytes.max(next.max_bytes),
            read_only: self.read_only && next.read_only,
            descriptors: self.descriptors.max(next.descriptors),
            is_machine_memory: self.is_machine_memory || next.is_machine_memory,
            recycles: self.recycles || next.recycles,
        }
    }

    /// Returns whether every buffer is a dma-buf.
    pub fn gives_dma_bufs(&self) -> bool {
        self.backings.iter().all(|backing| backing.is_dma_buf())
    }
}

/// An opened source, and its properties.
#[derive(Clone)]
pub struct Opened {
    /// Makes the memory.
    pub source: Arc<dyn Source>,
    /// Its properties.
    pub capabilities: Capabilities,
    /// The memory that was set aside, if its buffers are in it.
    pub arena: Option<Arc<ArenaFile>>,
    /// The same source, if it can also make a buffer of blocks of earlier buffers.
    pub blocks: Option<Arc<BlockSource>>,
    /// Whether it had no memory for its test: other processes may hold all of it, or it may be
    /// broken.
    pub is_dry: bool,
}

impl Opened {
    /// Wraps a source that passed its test, with neither memory set aside nor blocks.
    pub fn new(source: Arc<dyn Source>, capabilities: Capabilities) -> Self {
        Self { source, capabilities, arena: None, blocks: None, is_dry: false }
    }
}

impl From<Arc<dyn FileSource>> for Opened {
    fn from(files: Arc<dyn FileSource>) -> Self {
        let capabilities = files.capabilities();
        Self::new(files, capabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sources_as_one_promise_what_both_keep_and_accept_what_one_does() {
        let large = Capabilities {
            max_bytes: 8 << 20,
            read_only: false,
            descriptors: 2,
            is_machine_memory: false,
            recycles: false,
            ..Capabilities::of_pieces(Backing::Udmabuf, 2 << 20)
        };
        let small = Capabilities {
            contiguous_bytes: u64::MAX,
            max_bytes: 4 << 20,
            ..Capabilities::of_pieces(Backing::DmaHeap, 4096)
        };
        let expected = |backings| Capabilities {
            backings,
            max_alignment: 4096,
            granularity: 2 << 20,
            contiguous_bytes: 2 << 20,
            max_bytes: 8 << 20,
            read_only: false,
            descriptors: 2,
            is_machine_memory: true,
            recycles: true,
        };
        let merged = large.clone().merge(small.clone());
        assert_eq!(merged, expected(vec![Backing::Udmabuf, Backing::DmaHeap]));
        assert_eq!(small.merge(large), expected(vec![Backing::DmaHeap, Backing::Udmabuf]));
    }
}
