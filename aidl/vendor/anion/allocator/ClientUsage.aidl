// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What one uid holds. */
@VintfStability
parcelable ClientUsage {
    int uid;
    /** Name of its policy in the configuration; "default" if none names the uid. */
    String policy;
    /** Bytes of its live buffers. */
    long bytes;
    /** Number of its live buffers. */
    long buffers;
    /** Highest bytes since the service started. */
    long peakBytes;
    /** Byte limit; 0 if unlimited. */
    long quotaBytes;
    /** Buffer limit; 0 if unlimited. */
    long quotaBuffers;
}
