// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Bits of AllocationRequest.flags. Any other bit is refused with BAD_REQUEST. */
@VintfStability
@Backing(type="int")
enum AllocationFlags {
    /** CPU mappings must be cached (ION_FLAG_CACHED). Heaps that map uncached are passed over. */
    CACHED = 1,
}
