// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.HeapVerdict;

/** Outcome of a dry run. A snapshot: another caller may take the memory before the real call. */
@VintfStability
parcelable Explanation {
    /** Whether allocate would succeed now. */
    boolean possible;
    /** Name of the heap that would serve it; empty if none. */
    String chosenHeap;
    /** The ErrorCode that allocate would fail with; 0 if possible. */
    int error = 0;
    /** The whole answer as text, as a failing allocate carries it in its status message. */
    String summary;
    /** Every heap selected by the request, in the order they are tried. */
    HeapVerdict[] verdicts;
}
