// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Bits of AllocationRequest.flags. Any other bit is refused with BAD_REQUEST. */
@VintfStability
@Backing(type="int")
enum AllocationFlags {
    /** CPU mappings must be cached (ION_FLAG_CACHED). Heaps that map uncached are passed over. */
    CACHED = 1,
    /**
     * The caller overwrites every byte: a buffer may have what clients of the caller's own trust domain (its SELinux
     * context, or its uid where the transport tells no context) left in it, and need not be zeroed. It never has what
     * clients of another domain wrote. Whether such a buffer is zero is up to the service; heaps that share memory
     * between domains give zeroed buffers. Services of version 1 refuse the bit with BAD_REQUEST: clients that find
     * version 1 leave it out.
     */
    UNZEROED = 2,
}
