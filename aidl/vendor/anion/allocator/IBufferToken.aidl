// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Holds buffers of one allocation whose release the kernel does not report (ReleaseMechanism.TOKEN). They are their
 * owner's, and count against its uid, as long as this object is referenced: until the client drops it, dies, or, over a
 * socket, its session ends. Descriptors and mappings do not matter then, in whatever process.
 *
 * Giving up a buffer takes no memory away: a process that still has it keeps it, but no uid is charged for it, and
 * describe does not know it any more. The kernel frees it after the last holder; the service never hands it out again.
 *
 * Any holder of the object may call.
 */
@VintfStability
interface IBufferToken {
    /**
     * Gives up some of its buffers: for those who want to go on with the others, and for languages in which it is not
     * certain when the last reference goes.
     *
     * @param ids Buffer.id of each; empty for all. Buffers that were given up before are passed over.
     *
     * ## Error conditions
     * BAD_REQUEST: an id that is not of a buffer of this token. Nothing is given up then.
     */
    void release(in long[] ids);
}
