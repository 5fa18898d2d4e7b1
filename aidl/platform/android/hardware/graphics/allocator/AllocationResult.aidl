// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

import android.hardware.common.NativeHandle;

/** Buffers of one call. */
@VintfStability
parcelable AllocationResult {
    /**
     * Distance from a row to the next, in pixels; for RAW10 and RAW12, in bytes. The same for all
     * buffers.
     */
    int stride;
    /** A handle for each buffer; the mapper of the allocator's suffix reads it. */
    NativeHandle[] buffers;
}
