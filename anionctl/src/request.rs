// SPDX-License-Identifier: Apache-2.0
//! Builds the request from the flags of `alloc` and `explain`.

use crate::args::RequestArgs;
use crate::image::ImageRow;
use anion_layout::STRIDE_ALIGN;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Access::Access;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationFlags::AllocationFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapInfo::HeapInfo;

/// The mask that admits every heap.
const ALL_HEAPS: u32 = u32::MAX;

impl RequestArgs {
    /// Returns the alignment in bytes that every heap which may serve the request needs for rows of
    /// an image. A service of the interface's version 1 reports none.
    pub(crate) fn stride_align(&self, heaps: Vec<HeapInfo>) -> u32 {
        let mask = self.heap_mask.unwrap_or(ALL_HEAPS);
        let is_named = |heap: &HeapInfo| {
            std::iter::once(&heap.name).chain(&heap.aliases).any(|name| self.heap.contains(name))
        };
        let may_serve = |heap: &HeapInfo| match self.heap.is_empty() {
            true => u32::try_from(heap.id).is_ok_and(|id| mask.checked_shr(id).unwrap_or(0) & 1 == 1),
            false => is_named(heap),
        };
        let told = heaps.into_iter().filter(|heap| heap.available && may_serve(heap));
        let told = told.filter_map(|heap| u32::try_from(heap.strideAlign).ok()).filter(|bytes| *bytes > 0);
        told.max().unwrap_or(STRIDE_ALIGN)
    }

    /// Returns the request for the service, for buffers of `image` if there is one. Checks nothing,
    /// so that the user sees the service's own answer.
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
