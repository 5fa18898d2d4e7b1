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
    /** Memory set aside when the service starts, which is handed out in chunks of one size. */
    CHUNK = 3,
    /**
     * The kernel's contiguous memory allocator (ION_HEAP_TYPE_DMA), or memory set aside instead if
     * the configuration selects that.
     */
    DMA = 4,
    /** An ordered list of other sources, which the heap tries in turn, or a vendor-defined heap. */
    CUSTOM = 5,
}
