// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.HeapVerdict;

/** Result of a dry run. Another caller may take the memory before the real call. */
@VintfStability
parcelable Explanation {
    /** Whether allocate would succeed now. */
    boolean possible;
    /** Name of the heap that would serve the request; empty if none would. */
    String chosenHeap;
    /** The ErrorCode that allocate would fail with; 0 if possible. */
    int error = 0;
    /** The whole answer as text, the same as the status message of a failing allocate. */
    String summary;
    /** Every heap that the request selects, in the order in which the service tries them. */
    HeapVerdict[] verdicts;
}
