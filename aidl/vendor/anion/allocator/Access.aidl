// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What the receiver of a file descriptor can do with it. The kernel enforces it. */
@VintfStability
@Backing(type="int")
enum Access {
    READ_WRITE = 0,
    /**
     * No holder of the descriptor can write to the buffer: it cannot be written, mapped writable, or re-opened for
     * writing by another uid. It is open for reading only, except that of an ashmem region, whose protection mask does the
     * same.
     */
    READ_ONLY = 1,
}
