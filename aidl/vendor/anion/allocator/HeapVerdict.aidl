// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Verdict;

/** One heap's answer in an Explanation. */
@VintfStability
parcelable HeapVerdict {
    /** Id of the heap, or -1 if no heap matched the name. */
    int heapId;
    /** Name of the heap, or the name that matched none. */
    String heapName;
    Verdict verdict;
    /** The verdict in words: what was asked, and the limit it met. */
    String reason;
    /**
     * Largest size in bytes of a buffer that this heap could give the caller now, for the requested count, beyond what
     * the caller reserved; 0 if none.
     */
    long fitsBytes;
}
