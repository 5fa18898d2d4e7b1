// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;

/** One allocated buffer. */
@VintfStability
parcelable Buffer {
    /**
     * The buffer. The caller owns this descriptor, which is close-on-exec. Closing every copy and
     * mapping releases the memory; the memory of a buffer of Allocation.token is released with the
     * token.
     */
    ParcelFileDescriptor fd;
    /** Identity, unique until the machine reboots, also across restarts of the service. */
    long id;
    /** Usable bytes: the requested size rounded up to the heap's granule. */
    long size;
    /** Id of the heap that the buffer came from. */
    int heapId;
    /** Name of that heap. */
    String heapName;
    /** Kind of the descriptor. */
    Backing backing;
}
