// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

import vendor.anion.allocator.PressureLevel;

/** Receives the level of memory pressure, so that a client can release memory in time. */
@VintfStability
oneway interface IPressureListener {
    /**
     * Receives the level at the time of registration, then every change. A slow listener may miss
     * levels in between; the last call always has the latest level.
     */
    void onPressure(in PressureLevel level);
}
