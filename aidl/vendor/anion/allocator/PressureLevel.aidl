// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * How scarce memory is for the service. A level lasts until ten seconds have passed without what raises it; then the
 * next lower level holds whose own ten seconds have not passed.
 */
@VintfStability
@Backing(type="int")
enum PressureLevel {
    /** Nothing is known to be scarce. Also what a service says that has no way to learn of pressure. */
    NONE = 0,
    /**
     * Some task of the machine or of the watched cgroup waited for memory for 150 ms within 2 s (PSI "some"), or the
     * cgroup exceeded its memory.high, or, while the service keeps spare memory, less than a 32nd of the machine's
     * memory was available (MemAvailable). The service gives back all deferred frees and half of every pool but
     * those of memory that is set aside for a heap.
     */
    MODERATE = 1,
    /**
     * All tasks of the machine or of the watched cgroup that could run waited for memory for 300 ms within 2 s (PSI
     * "full"), or the cgroup met its memory.max, or ran out of memory, or, while the service keeps spare memory, less
     * than a 64th of the machine's memory was available. The service gives back all that no client holds or reserved and
     * that is not set aside for a heap, and keeps nothing that is released.
     */
    CRITICAL = 2,
}
