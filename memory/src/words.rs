// SPDX-License-Identifier: Apache-2.0
//! Names for kinds of heaps and buffers, which the service and its clients use.

use std::fmt;

/// A buffer's id. It is not reused until the machine reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u64);

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Kind of heap, with ION's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HeapType {
    /// Ordinary memory, allocated page by page.
    System = 0,
    /// Ordinary memory that is physically contiguous.
    SystemContig = 1,
    /// Memory of fixed size, set aside for the heap.
    Carveout = 2,
    /// The same, allocated in chunks of one size.
    Chunk = 3,
    /// The kernel's contiguous memory allocator.
    Dma = 4,
    /// An ordered list of other sources, or a vendor's own kind.
    Custom = 5,
}

impl HeapType {
    /// Returns ION's number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the word used in configurations and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::SystemContig => "system-contig",
            Self::Carveout => "carveout",
            Self::Chunk => "chunk",
            Self::Dma => "cma",
            Self::Custom => "custom",
        }
    }
}

/// Kind of a buffer's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// A sealed memfd.
    Memfd,
    /// An ashmem region.
    Ashmem,
    /// A dma-buf that /dev/udmabuf made.
    Udmabuf,
    /// A dma-buf from a kernel dma-heap.
    DmaHeap,
    /// A dma-buf from the kernel's ION device.
    Ion,
    /// A memfd of huge pages.
    Hugetlb,
}

impl Backing {
    /// Returns the word used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memfd => "memfd",
            Self::Ashmem => "ashmem",
            Self::Udmabuf => "udmabuf",
            Self::DmaHeap => "dma-heap",
            Self::Ion => "ion",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Returns whether the descriptor is a dma-buf.
    pub fn is_dma_buf(self) -> bool {
        matches!(self, Self::Udmabuf | Self::DmaHeap | Self::Ion)
    }
}

/// Access mode of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading, writing, and mapping for both.
    ReadWrite,
    /// Reading, and mapping for reading only; the kernel enforces it.
    ReadOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_types_have_ions_numbers() {
        use HeapType::{Carveout, Chunk, Custom, Dma, System, SystemContig};
        let numbers = [System, SystemContig, Carveout, Chunk, Dma, Custom].map(HeapType::number);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
