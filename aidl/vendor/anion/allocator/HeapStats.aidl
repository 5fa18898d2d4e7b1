// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Counters of one heap since the service started. All values of one heap are consistent with each
 * other, except allocateLatency and largestFreeBytes.
 */
@VintfStability
parcelable HeapStats {
    int heapId;
    String heapName;
    /** ION's num_of_buffers: buffers that exist, deferred frees included. */
    long numOfBuffers;
    /** ION's num_of_alloc_bytes: bytes of these buffers. Pooled memory does not count. */
    long numOfAllocBytes;
    /** ION's alloc_bytes_wm: the highest value of numOfAllocBytes; never reset. */
    long allocBytesWm;
    /** Bytes that clients hold. */
    long liveBytes;
    /**
     * Bytes that clients released and that wait for scrubbing, or for their return to the kernel.
     */
    long deferredBytes;
    /** Clean bytes that are pooled or preallocated; reclaimable. */
    long pooledBytes;
    /**
     * Bytes of reserved buffers that are not drawn, also of those that are not made yet; neither
     * live nor reclaimable.
     */
    long reservedBytes;
    /** Bytes that the heap can give at once; 0 if only the machine's memory limits it. */
    long capacity;
    /**
     * Largest buffer in bytes that fits into a free range of the memory set aside for the heap,
     * without evicting pooled buffers; 0 if the heap has no memory set aside. Slightly older or
     * newer than the other values.
     */
    long largestFreeBytes;
    /** Buffers handed out. */
    long allocations;
    /** Buffers that their last holder released. */
    long frees;
    /** Pool hits: buffers that came from pooled memory. */
    long recycled;
    /** Pool misses: new buffers of a heap with a pool that were large enough for the pool. */
    long poolMisses;
    /**
     * Buffers that were preallocated because clients requested their size repeatedly; without
     * reservations.
     */
    long warmed;
    /** Bytes that were cleaned for reuse. */
    long scrubbedBytes;
    /**
     * Released buffers, large enough for the pool, that were not pooled or were evicted: the sum of
     * the following six. Buffers that left the pool later, by trim, age or pressure, do not count.
     */
    long discarded;
    /**
     * A full pool evicted it for a newer one, or the memory that waited for scrubbing had reached
     * the pool's limit.
     */
    long discardedFull;
    /** Another process had opened the file again, or a device still used it. */
    long discardedBusy;
    /** A client had added a seal, which cannot be removed. */
    long discardedSealed;
    /**
     * Less than half of it was ever touched, so that a new buffer is cheaper than cleaning this
     * one. A buffer of huge pages or memory set aside: a client had returned some of its pages. Or
     * it was memory of the kernel's own heaps.
     */
    long discardedUntouched;
    /** Memory was critically scarce when it was released. */
    long discardedScarce;
    /** The memory could not be cleaned. */
    long discardedScrubFailed;
    /** Requests that were refused for lack of memory, capacity or descriptors. */
    long failuresNoMemory;
    /**
     * Those of failuresNoMemory that failed for fragmentation: the heap had enough free bytes, but
     * no free range was long enough.
     */
    long failuresFragmented;
    /** Requests that exceeded the caller's quota. */
    long failuresQuota;
    /** Requests of callers that may not use the heap. */
    long failuresNotPermitted;
    /** Requests for a kind of buffer that the heap can never give. */
    long failuresUnsupported;
    /** Requests that failed for an unexpected error of the kernel. */
    long failuresBackend;
    /**
     * Durations of successful calls of allocate that this heap served, within the service:
     * IHeapAllocator.LATENCY_CLASSES counts of calls, for any number of buffers. Element 0 counts
     * calls below 1 us, element n calls of at least 2^(n-1) us and below 2^n us, and the last
     * element all longer calls.
     */
    long[] allocateLatency;
    /**
     * The part of scrubbedBytes that calls of allocate cleaned because the pool had no clean
     * buffer.
     */
    long scrubbedInCallBytes;
    /**
     * Buffers that were handed out without zeroing, within their trust domain
     * (AllocationFlags.UNZEROED).
     */
    long unzeroed;
}
