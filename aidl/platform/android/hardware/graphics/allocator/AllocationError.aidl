// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

/** Codes of service-specific errors. */
@VintfStability
@Backing(type="int")
enum AllocationError {
    /** Clients take 0 for success, so nothing is ever answered with it. */
    BAD_DESCRIPTOR = 0,
    /** Memory, quota or descriptors have run out; a later call can succeed. */
    NO_RESOURCES = 1,
    /** No such buffer can be had. */
    UNSUPPORTED = 2,
}
