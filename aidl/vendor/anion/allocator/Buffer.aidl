// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;

/** One allocated buffer. */
@VintfStability
parcelable Buffer {
    /**
     * The buffer. The caller owns this descriptor; closing every copy and mapping releases the memory
     * (of a buffer that Allocation.token holds, giving that up does). Close-on-exec.
     */
    ParcelFileDescriptor fd;
    /** Identity that no other buffer has had or will have until the machine reboots, across service restarts too. */
    long id;
    /** Usable bytes: the requested size rounded up to the heap's granule. */
    long size;
    /** Id of the heap it came from. */
    int heapId;
    /** Name of that heap. */
    String heapName;
    /** Kind of descriptor. */
    Backing backing;
}
