// SPDX-License-Identifier: Apache-2.0
package android.hardware.common;

/** File descriptors and numbers that belong together. */
@VintfStability
parcelable NativeHandle {
    ParcelFileDescriptor[] fds;
    int[] ints;
}
