// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

/** Codes of service-specific errors. */
@VintfStability
@Backing(type="int")
enum AllocationError {
    /** The service never returns this code, since clients interpret 0 as success. */
    BAD_DESCRIPTOR = 0,
    /** Memory, quota or descriptors have run out; a later call can succeed. */
    NO_RESOURCES = 1,
    /** The service cannot allocate such a buffer. */
    UNSUPPORTED = 2,
}
