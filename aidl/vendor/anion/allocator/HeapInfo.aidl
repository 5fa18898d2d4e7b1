// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;
import vendor.anion.allocator.HeapType;
import vendor.anion.allocator.ReleaseMechanism;

/** A configured heap. */
@VintfStability
parcelable HeapInfo {
    /**
     * 0 to 31, unique: the bit in AllocationRequest.heapIdMask, and the priority: the service tries
     * higher ids first.
     */
    int id;
    /** Unique name, at most 31 bytes. */
    String name;
    /** Other names of the heap. */
    String[] aliases;
    HeapType type;
    /**
     * Kind of its buffers. For a heap with several sources, the kind of the first source; each
     * Buffer has its own kind.
     */
    Backing backing;
    /** Whether the heap can serve allocations on this machine. */
    boolean available;
    /** Reason if the heap is not available; else empty. */
    String unavailableReason;
    /**
     * Skipped sources of the heap's configuration, with the reason why this machine cannot use
     * each: "dma-heap:system: ...; ion: ...". Empty if there is none, and for an unavailable heap.
     */
    String passedOver;
    /**
     * Release mechanism of its buffers. For a heap with several sources, the last of theirs in the
     * enum.
     */
    ReleaseMechanism releaseMechanism;
    /** Bytes that the heap can give at once; 0 if only the machine's memory limits it. */
    long capacity;
    /** The service rounds sizes up to a multiple of this many bytes. */
    long granule;
    /** Largest alignment in bytes of a request; see AllocationRequest.alignment. */
    long maxAlignment;
    /** Bits of HeapFlags. */
    int flags;
    /** Position in the order in which the service tries heaps, from 0. */
    int priority;
    /** Alignment in bytes of the rows of images in its buffers: a power of two. Since version 2. */
    int strideAlign;
}
