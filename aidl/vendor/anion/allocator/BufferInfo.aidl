// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.Backing;
import vendor.anion.allocator.GraphicInfo;

/** What the service knows of a live buffer. */
@VintfStability
parcelable BufferInfo {
    /** The id that allocate returned. */
    long id;
    /** Bytes. */
    long size;
    int heapId;
    String heapName;
    Backing backing;
    /** uid and pid of the process that allocated it, wherever its descriptors are now. */
    int ownerUid;
    int ownerPid;
    /** The label given to allocate. */
    String name;
    /** Inode number: the key that /proc and other tools show for the buffer; of an ashmem region, for mappings of it. */
    long inode;
    /** Milliseconds since it was allocated. */
    long ageMs;
    /** What image it is for; null for buffers that no graphics allocator gave. Since version 2. */
    @nullable GraphicInfo graphic;
}
