// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Memory that one uid holds. */
@VintfStability
parcelable ClientUsage {
    int uid;
    /** Name of its policy in the configuration; "default" if none names the uid. */
    String policy;
    /** Bytes of its live buffers. */
    long bytes;
    /** Number of its live buffers. */
    long buffers;
    /** Bytes of its reserved buffers that are not drawn. They count against quotaBytes, too. */
    long reservedBytes;
    /** Highest value of bytes since the service started. */
    long peakBytes;
    /** Limit of bytes and reservedBytes together; 0 if unlimited. */
    long quotaBytes;
    /** Limit of buffers, reserved ones included; 0 if unlimited. */
    long quotaBuffers;
}
