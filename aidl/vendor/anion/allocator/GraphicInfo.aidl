// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What the buffer of an image was allocated for, by way of android.hardware.graphics.allocator. Since version 2. */
@VintfStability
parcelable GraphicInfo {
    /** Pixels of a row. */
    int width;
    /** Rows of pixels. */
    int height;
    /** Value of android.hardware.graphics.common.PixelFormat, as asked. */
    int format;
    /** Bits of android.hardware.graphics.common.BufferUsage, as asked. */
    long usage;
    /** Bytes of the metadata file that is charged with the buffer. */
    long metadataSize;
}
