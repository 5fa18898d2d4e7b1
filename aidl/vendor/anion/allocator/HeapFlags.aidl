// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Bits of HeapInfo.flags. */
@VintfStability
@Backing(type="int")
enum HeapFlags {
    /** CPU mappings are cached. */
    CACHED = 1,
    /** Every buffer is one physically contiguous piece, of any size. */
    CONTIGUOUS = 2,
    /** Every buffer is zero when the service hands it out. */
    ZEROED = 4,
    /**
     * The service cleans released memory in the background before reuse (ION_HEAP_FLAG_DEFER_FREE).
     */
    DEFERRED_FREE = 8,
    /** The CPU can never map the buffers. */
    SECURE = 16,
    /** The heap can give buffers with Access.READ_ONLY. */
    READ_ONLY = 32,
}
