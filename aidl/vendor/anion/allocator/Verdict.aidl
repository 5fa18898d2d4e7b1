// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What a heap would do with a request. */
@VintfStability
@Backing(type="int")
enum Verdict {
    /** It would serve the request now. */
    WOULD_SERVE = 0,
    /** No configured heap has this id or name. */
    UNKNOWN_HEAP = 1,
    /** The heap is configured, but unavailable on this machine. */
    UNAVAILABLE = 2,
    /** The caller's uid may not use it. */
    NOT_PERMITTED = 3,
    /** It cannot give this kind of buffer (alignment, dma-buf, cached mapping, read-only access). */
    UNSUPPORTED = 4,
    /** It could, but has no room now, or the size is beyond its capacity. */
    NO_ROOM = 5,
    /** It has room, but the caller's quota does not allow it. */
    QUOTA_EXCEEDED = 6,
}
