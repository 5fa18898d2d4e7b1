// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Answer of a heap to a request. */
@VintfStability
@Backing(type="int")
enum Verdict {
    /** The heap would serve the request now. */
    WOULD_SERVE = 0,
    /** No configured heap has this id or name. */
    UNKNOWN_HEAP = 1,
    /** The heap is configured, but unavailable on this machine. */
    UNAVAILABLE = 2,
    /** The caller's uid may not use the heap. */
    NOT_PERMITTED = 3,
    /**
     * The heap cannot give this kind of buffer (alignment, dma-buf, cached mapping, read-only
     * access).
     */
    UNSUPPORTED = 4,
    /** The heap has no room now, or the size exceeds its capacity. */
    NO_ROOM = 5,
    /** The heap has room, but the caller's quota does not permit the request. */
    QUOTA_EXCEEDED = 6,
}
