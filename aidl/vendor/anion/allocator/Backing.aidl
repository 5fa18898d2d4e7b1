// SPDX-License-Identifier: Apache-2.0
package vendor.anion.allocator;

/** What kind of file descriptor a heap's buffers are. */
@VintfStability
@Backing(type="int")
enum Backing {
    /** A sealed memfd: shared memory. */
    MEMFD = 0,
    /**
     * An ashmem region (kernels before 5.18). All its holders share one descriptor's state: what Access permits is
     * decided for all of them, and fstat tells of the device. Its release is not reported: see Allocation.token.
     */
    ASHMEM = 1,
    /** A dma-buf made by /dev/udmabuf of the service's own memory, pooled or set aside. */
    UDMABUF = 2,
    /** A dma-buf of one of the kernel's dma-heaps. */
    DMA_HEAP = 3,
    /** A dma-buf of the kernel's ion device. */
    ION = 4,
    /** A memfd of huge pages. */
    HUGETLB = 5,
}
