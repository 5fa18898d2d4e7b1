// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Image of a buffer that was allocated through android.hardware.graphics.allocator. Since version
 * 2.
 */
@VintfStability
parcelable GraphicInfo {
    /** Pixels of a row. */
    int width;
    /** Rows of pixels. */
    int height;
    /** Requested value of android.hardware.graphics.common.PixelFormat. */
    int format;
    /** Requested bits of android.hardware.graphics.common.BufferUsage. */
    long usage;
    /** Bytes of the metadata file that is charged with the buffer. */
    long metadataSize;
}
