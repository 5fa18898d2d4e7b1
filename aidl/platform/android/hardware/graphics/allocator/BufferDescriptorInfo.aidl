// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

import android.hardware.graphics.common.BufferUsage;
import android.hardware.graphics.common.ExtendableType;
import android.hardware.graphics.common.PixelFormat;

/** Description of a requested buffer. */
@VintfStability
parcelable BufferDescriptorInfo {
    /** Name of the buffer: ASCII that ends with NUL. */
    byte[128] name;
    /** Pixels of a row; for a BLOB, its bytes. */
    int width;
    /** Rows of pixels; for a BLOB, 1. */
    int height;
    /** Images in the buffer. */
    int layerCount;
    PixelFormat format = PixelFormat.UNSPECIFIED;
    /** Bits of BufferUsage. */
    BufferUsage usage = BufferUsage.CPU_READ_NEVER;
    /**
     * Bytes of the reserved region, which clients may use and which is part of the buffer's
     * metadata file.
     */
    long reservedSize;
    /** Further options, by name. A request with an unknown name is unsupported. */
    ExtendableType[] additionalOptions;
}
