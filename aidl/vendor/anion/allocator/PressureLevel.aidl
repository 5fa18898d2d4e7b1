// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/**
 * Level of memory pressure. A level ends ten seconds after its last cause. The next lower level
 * whose own ten seconds have not passed then applies.
 */
@VintfStability
@Backing(type="int")
enum PressureLevel {
    /**
     * No memory pressure is known. A service that cannot detect pressure also reports this level.
     */
    NONE = 0,
    /**
     * One of these happened: some task of the machine or of the watched cgroup waited for memory
     * for 150 ms within 2 s (PSI "some"); the cgroup exceeded its memory.high; or, while the
     * service has pooled memory, less than a 32nd of the machine's memory was available
     * (MemAvailable). The service returns all deferred frees and half of every pool to the kernel,
     * except memory that is set aside for a heap.
     */
    MODERATE = 1,
    /**
     * One of these happened: all tasks of the machine or of the watched cgroup that could run
     * waited for memory for 300 ms within 2 s (PSI "full"); the cgroup reached its memory.max or
     * ran out of memory; or, while the service has pooled memory, less than a 64th of the machine's
     * memory was available. The service returns all memory that no client holds or reserved to the
     * kernel, except memory that is set aside for a heap, and pools no released memory.
     */
    CRITICAL = 2,
}
