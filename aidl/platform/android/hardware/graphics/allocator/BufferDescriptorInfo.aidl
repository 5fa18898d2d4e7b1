// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

import android.hardware.graphics.common.BufferUsage;
import android.hardware.graphics.common.ExtendableType;
import android.hardware.graphics.common.PixelFormat;

/** What a buffer must be like. */
@VintfStability
parcelable BufferDescriptorInfo {
    /** What people call it: ASCII that ends with NUL. */
    byte[128] name;
    /** Pixels of a row; bytes of a BLOB. */
    int width;
    /** Rows of pixels; 1 of a BLOB. */
    int height;
    /** Images in the buffer. */
    int layerCount;
    PixelFormat format = PixelFormat.UNSPECIFIED;
    /** Bits of BufferUsage. */
    BufferUsage usage = BufferUsage.CPU_READ_NEVER;
    /** Bytes of the region that travels with the buffer for the clients' own use. */
    long reservedSize;
    /** More wishes, by name. One whose name is not known makes the request unsupported. */
    ExtendableType[] additionalOptions;
}
