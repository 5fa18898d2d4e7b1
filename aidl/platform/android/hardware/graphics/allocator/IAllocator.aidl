// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.allocator;

import android.hardware.graphics.allocator.AllocationResult;
import android.hardware.graphics.allocator.BufferDescriptorInfo;

/**
 * Android's graphics allocator, version 2. This file states the platform's interface for builds
 * without the platform: names, order and types are those of the platform, the comments are Anion's.
 */
@VintfStability
interface IAllocator {
    /**
     * Allocates by a descriptor that a mapper of version 4 encoded. Anion's mapper is of version 5
     * and encodes none, so this method always fails with UNSUPPORTED.
     *
     * @deprecated use allocate2.
     */
    AllocationResult allocate(in byte[] descriptor, in int count);

    /**
     * Allocates `count` equal buffers, all or none, charged to the caller's uid.
     *
     * ## Error conditions
     * Service-specific, an AllocationError: NO_RESOURCES if memory, quota or descriptors have run
     * out, UNSUPPORTED for everything else. Never 0.
     */
    AllocationResult allocate2(in BufferDescriptorInfo descriptor, in int count);

    /**
     * Returns whether allocate2 serves such a buffer to this caller as long as there are resources;
     * if it returns false, allocate2 never does. An unsupported descriptor is no error of this
     * method.
     */
    boolean isSupported(in BufferDescriptorInfo descriptor);

    /** Returns SUFFIX of the library `mapper.SUFFIX.so` that imports the buffers. */
    String getIMapperLibrarySuffix();
}
