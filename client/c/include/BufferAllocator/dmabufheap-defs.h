/* SPDX-License-Identifier: Apache-2.0 */
/* Constants of libdmabufheap. */
#ifndef ANION_DMABUFHEAP_DEFS_H
#define ANION_DMABUFHEAP_DEFS_H

/* Direction of a CPU access: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE and DMA_BUF_SYNC_RW. */
typedef enum {
    kSyncRead = 1,
    kSyncWrite = 2,
    kSyncReadWrite = 3,
} SyncType;

/* Heaps of ordinary memory; the CPU maps buffers of the second uncached. If the configuration has
 * no heap of the second name, DmabufHeapAllocSystem() allocates from the first. */
static const char kDmabufSystemHeapName[] __attribute__((unused)) = "system";
static const char kDmabufSystemUncachedHeapName[] __attribute__((unused)) = "system-uncached";

#endif
