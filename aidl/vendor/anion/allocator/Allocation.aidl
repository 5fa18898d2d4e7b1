// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Buffer;
import vendor.anion.allocator.IBufferToken;

/** Reply to allocate: as many buffers as were requested, all from one heap. */
@VintfStability
parcelable Allocation {
    Buffer[] buffers;
    /**
     * Holds those of the buffers whose release the kernel does not report; null if it reports that of all, as on every
     * heap whose HeapInfo.releaseMechanism is not TOKEN. The client must keep it as long as it wants to own them.
     */
    @nullable IBufferToken token;
}
