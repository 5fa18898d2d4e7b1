// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What the receiver of a file descriptor can do with it. The kernel enforces it. */
@VintfStability
@Backing(type="int")
enum Access {
    READ_WRITE = 0,
    /** The descriptor is open for reading only: it cannot be written, mapped writable, or re-opened for writing by another uid. */
    READ_ONLY = 1,
}
