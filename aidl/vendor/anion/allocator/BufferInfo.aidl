// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;
import vendor.anion.allocator.GraphicInfo;

/** Description of a live buffer. */
@VintfStability
parcelable BufferInfo {
    /** The id that allocate returned. */
    long id;
    /** Bytes. */
    long size;
    int heapId;
    String heapName;
    Backing backing;
    /** uid and pid of the process that allocated the buffer, whichever processes hold it now. */
    int ownerUid;
    int ownerPid;
    /** The label given to allocate. */
    String name;
    /**
     * Inode number, which /proc and other tools show for the buffer. They show that of an ashmem
     * region for its mappings.
     */
    long inode;
    /** Milliseconds since the allocation. */
    long ageMs;
    /** Image of a buffer from the graphics allocator; null for other buffers. Since version 2. */
    @nullable GraphicInfo graphic;
}
