// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Verdict;

/** One heap's answer in an Explanation. */
@VintfStability
parcelable HeapVerdict {
    /** Id of the heap, or -1 if no heap matched the name. */
    int heapId;
    /** Name of the heap, or the requested name that no heap has. */
    String heapName;
    Verdict verdict;
    /** The verdict in words: the requested value and the limit. */
    String reason;
    /**
     * Largest size in bytes of a buffer that this heap could give the caller now, for the requested
     * count, in addition to the caller's reservations; 0 if none.
     */
    long fitsBytes;
}
