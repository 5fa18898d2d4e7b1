// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Why a call failed: the service-specific code of the returned status. One code per cause, never 0.
 * The status message names the field, the value and the limit, and for a failed allocation gives the
 * verdict on every heap considered.
 */
@VintfStability
@Backing(type="int")
enum ErrorCode {
    /** The request itself is malformed: a size, count, flag, name or enum value outside its range. Fix the caller. */
    BAD_REQUEST = 1,
    /** No configured heap has the requested id, name or alias (ION's ENODEV). */
    UNKNOWN_HEAP = 2,
    /** The caller's uid may not use this heap or this call. */
    NOT_PERMITTED = 3,
    /**
     * The heaps exist, but none of them can give this kind of buffer: alignment, dma-buf, cached mapping, read-only access, or unavailable here. Or the
     * listener given cannot be called.
     */
    UNSUPPORTED = 4,
    /** Memory, heap budget, file descriptors or kernel objects are exhausted. May succeed later. */
    NO_MEMORY = 5,
    /** The caller's own quota of bytes, buffers, reservations or listeners would be exceeded. Letting go of some helps. */
    QUOTA_EXCEEDED = 6,
    /** The file descriptor does not belong to a live buffer of this service. */
    NOT_OURS = 7,
    /** The kernel refused an operation that should work; the service log has the details. */
    BACKEND = 8,
}
