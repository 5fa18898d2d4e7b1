// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Owns buffers of one allocation whose release the kernel cannot report (ReleaseMechanism.TOKEN).
 * The buffers are charged to the owner's uid as long as this object is referenced: until the client
 * drops it or exits, or, over a socket, its session ends. Descriptors and mappings have no
 * influence, in any process.
 *
 * A process that still has a released buffer keeps its memory, but the buffer is charged to no uid,
 * and describe does not know it any more. The kernel frees the memory after the last holder; the
 * service never reuses it.
 *
 * Who may call: any holder of the object.
 */
@VintfStability
interface IBufferToken {
    /**
     * Releases some or all of its buffers. Use it to keep the other buffers, or in languages where
     * the time of the last reference's end is not certain.
     *
     * @param ids Buffer.id of each; empty for all. Buffers that were released before are ignored.
     *
     * ## Error conditions
     * BAD_REQUEST: an id is not that of a buffer of this token. No buffer is released then.
     */
    void release(in long[] ids);
}
