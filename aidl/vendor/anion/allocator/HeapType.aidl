// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Kind of heap, with ION's numbers (enum ion_heap_type). */
@VintfStability
@Backing(type="int")
enum HeapType {
    /** Ordinary memory, page by page. */
    SYSTEM = 0,
    /** Ordinary memory in one physical piece: at most a huge page. */
    SYSTEM_CONTIG = 1,
    /** Memory set aside for this heap when the service starts. */
    CARVEOUT = 2,
    /** Memory set aside when the service starts, handed out in chunks of one size. */
    CHUNK = 3,
    /**
     * The kernel's contiguous memory allocator (ION_HEAP_TYPE_DMA), or memory set aside in its place where the configuration
     * says so.
     */
    DMA = 4,
    /** An ordered list of other sources, tried in turn, or a heap only its vendor knows. */
    CUSTOM = 5,
}
