// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Bits of HeapInfo.flags. */
@VintfStability
@Backing(type="int")
enum HeapFlags {
    /** CPU mappings are cached. */
    CACHED = 1,
    /** Every buffer is one physically contiguous piece, whatever its size. */
    CONTIGUOUS = 2,
    /** Every buffer is zero when it is handed out. */
    ZEROED = 4,
    /** Released memory is cleaned in the background before it is reused (ION_HEAP_FLAG_DEFER_FREE). */
    DEFERRED_FREE = 8,
    /** The CPU can never map the buffers. */
    SECURE = 16,
    /** Buffers can be had with Access.READ_ONLY. */
    READ_ONLY = 32,
}
