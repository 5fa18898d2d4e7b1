// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * A reservation of one client, made by IHeapAllocator.reserve. It lasts as long as this object is
 * referenced.
 *
 * Who may call: any holder of the object.
 */
@VintfStability
interface IReservation {
    /**
     * Returns how many of its buffers are ready now: at most the reserved count less the buffers
     * that were drawn and not yet released.
     */
    int ready();

    /**
     * Releases the buffers that were not drawn, at once. Use it in languages where the time of the
     * last reference's end is not certain. Drawn buffers stay with their holders. ready() returns 0
     * from then on; further calls do nothing.
     */
    void release();
}
