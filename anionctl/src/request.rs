// SPDX-License-Identifier: Apache-2.0
//! The request that the flags of `alloc` and `explain` stand for.

use crate::args::RequestArgs;
use crate::image::ImageRow;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Access::Access;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationFlags::AllocationFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;

/// The mask that admits every heap.
const ALL_HEAPS: u32 = u32::MAX;

impl RequestArgs {
    /// Returns the request as the service reads it, for buffers of `image` if there is one. Nothing
    /// is checked here: the service's own answer is what a user of this tool wants to see.
    pub(crate) fn request(&self, image: Option<&ImageRow>) -> AllocationRequest {
        // Names and a mask exclude each other; neither means all heaps.
        let heaps = if self.heap.is_empty() { self.heap_mask.unwrap_or(ALL_HEAPS) } else { 0 };
        AllocationRequest {
            size: image.map(ImageRow::bytes).or(self.size).unwrap_or(0),
            count: self.count,
            heapIdMask: heaps.cast_signed(),
            heapNames: self.heap.clone(),
            flags: if self.cached { AllocationFlags::CACHED.0 } else { 0 },
            alignment: self.alignment,
            name: self.name.clone(),
            requireDmaBuf: self.dma_buf,
            access: if self.read_only { Access::READ_ONLY } else { Access::READ_WRITE },
        }
    }
}
