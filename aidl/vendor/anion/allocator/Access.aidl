// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Access mode of a file descriptor. The kernel enforces it. */
@VintfStability
@Backing(type="int")
enum Access {
    READ_WRITE = 0,
    /**
     * No holder of the descriptor can write to the buffer, map it writable, or open it again for
     * writing with another uid. The descriptor is open for reading only. An ashmem region has a
     * protection mask with the same effect instead.
     */
    READ_ONLY = 1,
}
