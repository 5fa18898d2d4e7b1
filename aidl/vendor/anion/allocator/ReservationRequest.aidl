// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** A request of IHeapAllocator.reserve. */
@VintfStability
parcelable ReservationRequest {
    /** Bytes of one buffer, greater than 0. The service rounds it up to the heap's granule. */
    long size;
    /** Number of equal buffers, 1 to IHeapAllocator.MAX_COUNT. */
    int count = 1;
    /** Name or alias of the heap. */
    String heapName;
}
