// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** Kind of the file descriptors of a heap's buffers. */
@VintfStability
@Backing(type="int")
enum Backing {
    /** A sealed memfd: shared memory. */
    MEMFD = 0,
    /**
     * An ashmem region (kernels before 5.18). All its holders share one open file description, so
     * Access applies to all of them, and fstat describes the device. The kernel cannot report its
     * release: see Allocation.token.
     */
    ASHMEM = 1,
    /** A dma-buf that /dev/udmabuf made of the service's own memory, pooled or set aside. */
    UDMABUF = 2,
    /** A dma-buf of one of the kernel's dma-heaps. */
    DMA_HEAP = 3,
    /** A dma-buf of the kernel's ion device. */
    ION = 4,
    /** A memfd of huge pages. */
    HUGETLB = 5,
}
