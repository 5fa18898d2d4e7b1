// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Access;

/** A request for buffers. Exactly one of heapIdMask and heapNames selects the heaps. */
@VintfStability
parcelable AllocationRequest {
    /**
     * Bytes of one buffer, greater than 0. The service rounds it up to the heap's granule; the
     * reply has the result.
     */
    long size;
    /**
     * Number of equal buffers, 1 to IHeapAllocator.MAX_COUNT. One heap gives all of them, or the
     * call fails.
     */
    int count = 1;
    /**
     * Bit n admits the heap with id n; -1 admits all. The service tries heaps by descending id, as
     * ION does. 0 when heapNames is used.
     */
    int heapIdMask = 0;
    /**
     * Heap names or aliases, which the service tries in this order; at most 32. Empty when
     * heapIdMask is used.
     */
    String[] heapNames;
    /** Bits of AllocationFlags. */
    int flags = 0;
    /**
     * Required alignment in bytes of the buffer's memory: a power of two, or 0 for the heap's own.
     * The memory then consists of physical pieces of at least this size at multiples of it: a page
     * for ordinary memory, more for huge pages. The client chooses the address of its mapping; mmap
     * without an address uses the same alignment.
     */
    long alignment = 0;
    /** Label that dumps show: at most 31 bytes of printable ASCII; may be empty. */
    String name;
    /** The service skips heaps whose buffers are not dma-bufs. */
    boolean requireDmaBuf = false;
    /** Access mode of the descriptors in the reply. */
    Access access = Access.READ_WRITE;
}
