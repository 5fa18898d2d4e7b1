// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Access;

/** What a caller wants. Exactly one of heapIdMask and heapNames selects the heaps. */
@VintfStability
parcelable AllocationRequest {
    /** Bytes of one buffer, greater than 0. Rounded up to the chosen heap's granule; the reply carries the result. */
    long size;
    /** Number of equal buffers, 1 to IHeapAllocator.MAX_COUNT. All of them come from one heap, or none is allocated. */
    int count = 1;
    /**
     * Bit n admits the heap with id n; -1 admits all. Heaps are tried by descending id, as ION does.
     * 0 when heapNames is used.
     */
    int heapIdMask = 0;
    /** Heap names or aliases, tried in this order; at most 32. Empty when heapIdMask is used. */
    String[] heapNames;
    /** Bits of AllocationFlags. */
    int flags = 0;
    /**
     * Required alignment in bytes of the buffer's memory: a power of two, or 0 for the heap's own. The memory then
     * consists of physical pieces of at least this size at multiples of it: a page for ordinary memory, more for huge
     * pages. Where a client's mapping starts is its own affair; mmap without an address honours it, too.
     */
    long alignment = 0;
    /** Label shown in dumps: at most 31 bytes of printable ASCII; may be empty. */
    String name;
    /** Only heaps whose buffers are dma-bufs will do. */
    boolean requireDmaBuf = false;
    /** What the descriptors in the reply permit. */
    Access access = Access.READ_WRITE;
}
