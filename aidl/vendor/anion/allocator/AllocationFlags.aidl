// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Bits of AllocationRequest.flags. Any other bit is refused with BAD_REQUEST. */
@VintfStability
@Backing(type="int")
enum AllocationFlags {
    /** CPU mappings must be cached (ION_FLAG_CACHED). The service skips heaps that map uncached. */
    CACHED = 1,
    /**
     * The caller overwrites every byte, so the service need not zero the buffers. A buffer may
     * contain data of clients of the caller's own trust domain (its SELinux context, or its uid if
     * the transport delivers no context), never data of another trust domain. The service may still
     * zero a buffer, and heaps that share memory between domains always do. Services of version 1
     * refuse the bit with BAD_REQUEST: clients of such a service must not set it.
     */
    UNZEROED = 2,
}
