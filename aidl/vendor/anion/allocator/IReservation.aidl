// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Buffers that the service holds ready for one client, made by IHeapAllocator.reserve. They are held as long as this
 * object is referenced. Any holder of the object may call.
 */
@VintfStability
interface IReservation {
    /**
     * How many of its buffers lie ready now: 0 to the reserved count, less those that were drawn and not yet released.
     */
    int ready();

    /**
     * Gives back what was not drawn, at once: for languages in which it is not certain when the last reference goes.
     * Buffers that were drawn stay with their holders. ready() is 0 from then on; further calls do nothing.
     */
    void release();
}
