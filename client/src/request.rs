// SPDX-License-Identifier: Apache-2.0
//! Requests for buffers.

use anion_layout::Layout;
use anion_memory::Access;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Access::Access as AidlAccess;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationFlags::AllocationFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;

/// A request for equal buffers of one heap. Without a heap, the service tries all heaps by
/// descending id.
///
/// This type checks nothing: the service's refusal names field, value and limit.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: u64,
    count: u32,
    heaps: Vec<String>,
    mask: u32,
    alignment: u64,
    name: String,
    cached: bool,
    dma_buf: bool,
    unzeroed: bool,
    access: Access,
}

impl Request {
    /// Returns a request for one buffer of at least `bytes` bytes, readable and writable, of any
    /// heap.
    pub fn new(bytes: u64) -> Self {
        Self {
            bytes,
            count: 1,
            heaps: Vec::new(),
            mask: u32::MAX,
            alignment: 0,
            name: String::new(),
            cached: false,
            dma_buf: false,
            unzeroed: false,
            access: Access::ReadWrite,
        }
    }

    /// Returns a request for one buffer for an image of this layout.
    pub fn for_image(layout: &Layout) -> Self {
        Self::new(layout.bytes)
    }

    /// Adds the heap with this name or alias; the service tries the heaps in the order of the
    /// calls.
    #[must_use]
    pub fn heap(mut self, name: &str) -> Self {
        self.heaps.push(name.to_owned());
        self
    }

    /// Selects the heaps whose ids are bits of `mask`, by descending id. Names take precedence over
    /// the mask.
    #[must_use]
    pub fn heap_mask(mut self, mask: u32) -> Self {
        self.mask = mask;
        self
    }

    /// Requests `count` buffers, at most 64: one heap serves all of them, or the call fails.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// Sets the label for dumps: at most 31 bytes of printable ASCII.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Requires physically contiguous pieces of at least this many bytes, at multiples of it: a
    /// power of two, or 0 for the heap's own alignment.
    #[must_use]
    pub fn alignment(mut self, bytes: u64) -> Self {
        self.alignment = bytes;
        self
    }

    /// Skips heaps that the CPU maps uncached.
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.cached = true;
        self
    }

    /// Skips heaps whose buffers are not dma-bufs.
    #[must_use]
    pub fn dma_buf(mut self) -> Self {
        self.dma_buf = true;
        self
    }

    /// Accepts buffers with data of clients of the caller's own trust domain: for callers that
    /// overwrite every byte. A service of interface version 1 returns zeroed buffers.
    #[must_use]
    pub fn unzeroed(mut self) -> Self {
        self.unzeroed = true;
        self
    }

    /// Requests descriptors that permit only `access`.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Converts the request to a parcelable, for a service of interface `version`. A number beyond
    /// AIDL's range becomes the largest one, which the service refuses.
    pub(super) fn to_aidl(&self, version: i32) -> AllocationRequest {
        let cached = if self.cached { AllocationFlags::CACHED.0 } else { 0 };
        let unzeroed = if self.unzeroed && version >= 2 { AllocationFlags::UNZEROED.0 } else { 0 };
        AllocationRequest {
            size: i64::try_from(self.bytes).unwrap_or(i64::MAX),
            count: i32::try_from(self.count).unwrap_or(i32::MAX),
            // Names and a mask exclude each other.
            heapIdMask: if self.heaps.is_empty() { i32::from_ne_bytes(self.mask.to_ne_bytes()) } else { 0 },
            heapNames: self.heaps.clone(),
            flags: cached | unzeroed,
            alignment: i64::try_from(self.alignment).unwrap_or(i64::MAX),
            name: self.name.clone(),
            requireDmaBuf: self.dma_buf,
            access: match self.access {
                Access::ReadWrite => AidlAccess::READ_WRITE,
                Access::ReadOnly => AidlAccess::READ_ONLY,
            },
        }
    }

    /// Returns the lowest interface version that supports the whole request.
    pub(super) fn version(&self) -> i32 {
        if self.unzeroed { 2 } else { 1 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_replace_the_mask() {
        let any = Request::new(1).to_aidl(1);
        assert_eq!((any.heapIdMask, any.heapNames.len()), (-1, 0));
        let named = Request::new(1).heap_mask(6).heap("camera").heap("system").to_aidl(1);
        assert_eq!(
            (named.heapIdMask, named.heapNames.as_slice()),
            (0, &["camera".into(), "system".into()][..])
        );
        assert_eq!(Request::new(1).heap_mask(6).to_aidl(1).heapIdMask, 6);
    }

    #[test]
    fn a_service_of_version_1_is_not_asked_for_what_it_does_not_know() {
        let request = Request::new(1).cached().unzeroed();
        assert_eq!((request.to_aidl(1).flags, request.to_aidl(2).flags, request.to_aidl(3).flags), (1, 3, 3));
        assert_eq!((request.version(), Request::new(1).version()), (2, 1));
    }

    #[test]
    fn numbers_beyond_the_interface_do_not_wrap() {
        let request = Request::new(u64::MAX).count(u32::MAX).alignment(u64::MAX).to_aidl(1);
        assert_eq!((request.size, request.count, request.alignment), (i64::MAX, i32::MAX, i64::MAX));
    }
}
