// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * How the service learns that a buffer has no holder any more: no descriptor, copy in flight or mapping, in whatever
 * process. Proven when the service starts, with a buffer of its own. From the best to the least.
 */
@VintfStability
@Backing(type="int")
enum ReleaseMechanism {
    /** The kernel reports the last close, and a file lease confirms it. Released at once. */
    CLOSE_EVENTS = 0,
    /** File leases are asked now and then, since the kernel's watches are used up. Released within half a second. */
    LEASES = 1,
    /** The kernel counts a dma-buf's references, and is asked now and then. Released within half a second. */
    REFERENCE_COUNTS = 2,
    /** The kernel does not tell. A buffer belongs to its owner until that gives up Allocation.token. */
    TOKEN = 3,
}
