// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Buffer;

/** Reply to allocate: as many buffers as were requested, all from one heap. */
@VintfStability
parcelable Allocation {
    Buffer[] buffers;
}
