// SPDX-License-Identifier: Apache-2.0
package android.hardware.graphics.common;

/** A value of an enumeration that vendors may extend. */
@VintfStability
parcelable ExtendableType {
    /** Full name of the enumeration. */
    @utf8InCpp String name;
    /** One of its values. */
    long value = 0;
}
