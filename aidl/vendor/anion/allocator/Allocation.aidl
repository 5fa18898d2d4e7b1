// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Buffer;
import vendor.anion.allocator.IBufferToken;

/** Reply to allocate: as many buffers as were requested, all from one heap. */
@VintfStability
parcelable Allocation {
    Buffer[] buffers;
    /**
     * Owns the buffers whose release the kernel cannot report. The client must keep it as long as
     * it uses them. Null if the kernel reports the release of all buffers, as on every heap whose
     * HeapInfo.releaseMechanism is not TOKEN.
     */
    @nullable IBufferToken token;
}
