// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.PressureLevel;

/** A client that wants to know how scarce memory is, to give back what it can spare. */
@VintfStability
oneway interface IPressureListener {
    /**
     * The level at the time of registering, then every change. A listener that is slow to take calls may miss levels
     * in between; the last call always has the latest level.
     */
    void onPressure(in PressureLevel level);
}
