// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;
import vendor.anion.allocator.HeapType;
import vendor.anion.allocator.ReleaseMechanism;

/** A configured heap. */
@VintfStability
parcelable HeapInfo {
    /** 0 to 31, unique: the bit in AllocationRequest.heapIdMask, and the priority: higher ids are tried first. */
    int id;
    /** Unique name, at most 31 bytes. */
    String name;
    /** Other names the heap answers to. */
    String[] aliases;
    HeapType type;
    /** Kind of its buffers; of a heap with several sources, of those it gives first: each Buffer tells its own. */
    Backing backing;
    /** Whether allocations can come from it on this machine. */
    boolean available;
    /** Why not; empty if available. */
    String unavailableReason;
    /**
     * Sources that the configuration would rather have, or have beside those that serve the heap, and why each cannot
     * be used on this machine: "dma-heap:system: ...; ion: ...". Empty if there is none, and of an unavailable heap.
     */
    String passedOver;
    /** How releases of its buffers are noticed; of a heap with several sources, the least of theirs. */
    ReleaseMechanism releaseMechanism;
    /** Bytes the heap can hold at once; 0 if only the machine's memory limits it. */
    long capacity;
    /** Sizes are rounded up to a multiple of this many bytes. */
    long granule;
    /** Largest alignment in bytes that a request may ask for; see AllocationRequest.alignment. */
    long maxAlignment;
    /** Bits of HeapFlags. */
    int flags;
    /** Position in the order heaps are tried in, from 0. */
    int priority;
    /** Bytes that rows of images in its buffers should begin at multiples of: a power of two. Since version 2. */
    int strideAlign;
}
