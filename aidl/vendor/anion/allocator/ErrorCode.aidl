// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Cause of a failed call: the service-specific code of the returned status. There is one code for
 * each cause, never 0. The status message names the field, the value and the limit. For a failed
 * allocation it has the verdict of every heap that was considered.
 */
@VintfStability
@Backing(type="int")
enum ErrorCode {
    /**
     * The request itself is malformed: a size, count, flag, name or enum value outside its range.
     * The caller has a bug.
     */
    BAD_REQUEST = 1,
    /** No configured heap has the requested id, name or alias (ION's ENODEV). */
    UNKNOWN_HEAP = 2,
    /** The caller's uid may not use this heap or this call. */
    NOT_PERMITTED = 3,
    /**
     * The heaps exist, but none of them can give this kind of buffer (alignment, dma-buf, cached
     * mapping, read-only access), or they are unavailable on this machine. Or the service cannot
     * call the given listener.
     */
    UNSUPPORTED = 4,
    /**
     * Memory, the heap's capacity, file descriptors or kernel objects are exhausted. A later call
     * may succeed.
     */
    NO_MEMORY = 5,
    /**
     * The call would exceed the caller's own quota of bytes, buffers, reservations or listeners.
     * Releasing some of them helps.
     */
    QUOTA_EXCEEDED = 6,
    /** The file descriptor does not belong to a live buffer of this service. */
    NOT_OURS = 7,
    /** The kernel refused an operation that should work; the service log has the details. */
    BACKEND = 8,
}
