/* SPDX-License-Identifier: Apache-2.0 */
/* Names and numbers of libdmabufheap. */
#ifndef ANION_DMABUFHEAP_DEFS_H
#define ANION_DMABUFHEAP_DEFS_H

/* What the CPU does to a buffer: DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE and DMA_BUF_SYNC_RW. */
typedef enum {
    kSyncRead = 1,
    kSyncWrite = 2,
    kSyncReadWrite = 3,
} SyncType;

/* Ordinary memory, and the same mapped uncached by the CPU; where no heap has the latter name, it is
 * the former, too. */
static const char kDmabufSystemHeapName[] __attribute__((unused)) = "system";
static const char kDmabufSystemUncachedHeapName[] __attribute__((unused)) = "system-uncached";

#endif
