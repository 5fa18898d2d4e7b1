// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * The way in which the service detects that a buffer has no holder: no descriptor, copy in flight
 * or mapping, in any process. The service tests the mechanism at its start with a buffer of its
 * own. The first value is the best one.
 */
@VintfStability
@Backing(type="int")
enum ReleaseMechanism {
    /**
     * The kernel reports the last close, and a file lease confirms it. The release is immediate.
     */
    CLOSE_EVENTS = 0,
    /**
     * The service polls file leases, since the kernel's watches are used up. The release takes up
     * to half a second.
     */
    LEASES = 1,
    /**
     * The service polls the kernel's reference count of a dma-buf. The release takes up to half a
     * second.
     */
    REFERENCE_COUNTS = 2,
    /**
     * The kernel cannot report it. The owner is charged until it releases or drops
     * Allocation.token.
     */
    TOKEN = 3,
}
