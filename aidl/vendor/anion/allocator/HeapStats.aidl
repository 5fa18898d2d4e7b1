// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Counters of one heap since the service started. All of one heap's values but allocateLatency are from the same
 * instant.
 */
@VintfStability
parcelable HeapStats {
    int heapId;
    String heapName;
    /** ION's num_of_buffers: buffers that exist, deferred frees included. */
    long numOfBuffers;
    /** ION's num_of_alloc_bytes: their bytes. Pooled memory is not counted. */
    long numOfAllocBytes;
    /** ION's alloc_bytes_wm: the highest numOfAllocBytes ever; never reset. */
    long allocBytesWm;
    /** Bytes held by clients. */
    long liveBytes;
    /** Bytes released by clients and waiting to be cleaned or returned. */
    long deferredBytes;
    /** Clean bytes kept ready for reuse or made ahead of demand; reclaimable. */
    long pooledBytes;
    /** Bytes held ready for clients that reserved them and not in use, made or not; neither live nor reclaimable. */
    long reservedBytes;
    /** Bytes the heap can hold at once; 0 if only the machine's memory limits it. */
    long capacity;
    /**
     * Largest buffer in bytes that the free part of memory set aside for the heap could hold, pooled buffers not moved
     * out of the way; 0 if the heap has no memory set aside. A moment older or younger than the other values.
     */
    long largestFreeBytes;
    /** Buffers handed out. */
    long allocations;
    /** Buffers whose last holder released them. */
    long frees;
    /** Buffers served from pooled memory. */
    long recycled;
    /** Buffers of a pooled heap that had to be made new, though large enough to be pooled. */
    long poolMisses;
    /** Buffers made ahead of demand, since their size was asked for repeatedly; reservations do not count. */
    long warmed;
    /** Bytes cleaned for reuse. */
    long scrubbedBytes;
    /**
     * Released buffers, large enough to be pooled, that were not kept or made room for others: the sum of the following
     * six. What went later, by trim, age or pressure, is not counted.
     */
    long discarded;
    /** It made room for a newer one in a full pool, or as much waited to be cleaned as the pool could take. */
    long discardedFull;
    /** Somebody had opened the file again, or a device was not done with it. */
    long discardedBusy;
    /** A client had added a seal, which no file gives back. */
    long discardedSealed;
    /**
     * Less than half of it was ever touched: making a new one is cheaper than cleaning it. Of huge pages and memory set
     * aside: some was given back. Or it was the kernel's own.
     */
    long discardedUntouched;
    /** Memory was critically scarce when it was released. */
    long discardedScarce;
    /** The memory could not be cleaned. */
    long discardedScrubFailed;
    /** Requests refused for lack of memory, budget or descriptors. */
    long failuresNoMemory;
    /** Of these, requests refused though the heap's free bytes together would have held them: no piece was long enough. */
    long failuresFragmented;
    /** Requests refused by the caller's quota. */
    long failuresQuota;
    /** Requests refused because the caller may not use the heap. */
    long failuresNotPermitted;
    /** Requests for what the heap can never give. */
    long failuresUnsupported;
    /** Requests the kernel failed unexpectedly. */
    long failuresBackend;
    /**
     * How long successful calls of allocate took that this heap served, within the service: IHeapAllocator.LATENCY_CLASSES
     * counts of calls, whatever their number of buffers. Element 0 counts calls that took less than 1 us, element n
     * those of at least 2^(n-1) us and less than 2^n us, and the last one all that took longer than the one before.
     */
    long[] allocateLatency;
    /** The part of scrubbedBytes that calls of allocate cleaned, since no clean buffer was in the pool. */
    long scrubbedInCallBytes;
    /** Buffers that were handed out with their own domain's former contents, as AllocationFlags.UNZEROED permits. */
    long unzeroed;
}
