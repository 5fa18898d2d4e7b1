/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C functions of libdmabufheap over the Anion allocator service. What can fail answers a negative
 * errno: -ENODEV, no heap has the name; -ENOMEM, -EDQUOT, no room or no quota; -EINVAL, a NULL or a
 * flag; -ENOTCONN, no service answers. The service is found as anionctl(1) finds it (ANION_SOCKET).
 *
 * What differs from the library of this name on Android: heaps are the service's, so the caller
 * needs no device, and what it allocates counts against its uid's quota. A descriptor is what the
 * heap's configuration says, a dma-buf or a memfd. `legacy_align`, ION's flags and masks, and
 * functions that synchronise buffers of a legacy ION are ignored. docs/porting.md has new functions
 * for each.
 */
#ifndef ANION_BUFFER_ALLOCATOR_WRAPPER_H
#define ANION_BUFFER_ALLOCATOR_WRAPPER_H

#include <BufferAllocator/dmabufheap-defs.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
class BufferAllocator;
#else
typedef struct BufferAllocator BufferAllocator;
#endif

/* Never NULL. */
BufferAllocator *CreateDmabufHeapBufferAllocator(void);
void FreeDmabufHeapBufferAllocator(BufferAllocator *allocator);

/* A descriptor of a new buffer, of which every byte is zero. `heap_flags` must be 0. */
int DmabufHeapAlloc(BufferAllocator *allocator, const char *heap_name, size_t len,
                    unsigned int heap_flags, size_t legacy_align);
int DmabufHeapAlloc2(BufferAllocator *allocator, const char *heap_name, size_t len,
                     unsigned int heap_flags);

/* The same of "system", or of "system-uncached" where the CPU will not touch it and there is one. */
int DmabufHeapAllocSystem(BufferAllocator *allocator, bool cpu_access, size_t len,
                          unsigned int heap_flags, size_t legacy_align);
int DmabufHeapAllocSystem2(BufferAllocator *allocator, bool cpu_access, size_t len,
                           unsigned int heap_flags);

/* Has `ion_heap_name` tried where no heap answers to `heap_name`. */
int MapDmabufHeapNameToIonHeap(BufferAllocator *allocator, const char *heap_name,
                               const char *ion_heap_name, unsigned int ion_heap_flags,
                               unsigned int legacy_ion_heap_mask, unsigned int legacy_ion_heap_flags);

/* Around each access of the CPU to a mapping. 0 for a memfd, which needs no such call. */
int DmabufHeapCpuSyncStart(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type,
                           int (*legacy_ion_cpu_sync)(int, int, void *), void *data);
int DmabufHeapCpuSyncEnd(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type,
                         int (*legacy_ion_cpu_sync)(int, int, void *), void *data);
int DmabufHeapCpuSyncStart2(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type);
int DmabufHeapCpuSyncEnd2(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type);

/* At most 31 bytes; -ENOTTY if the buffer is no dma-buf. */
int DmabufSetName(BufferAllocator *allocator, unsigned int dmabuf_fd, const char *name);

/* Whether /dev/ion is there. */
bool CheckIonSupport(void);

/* Of this library alone: the names and aliases of the heaps that can be allocated from, each with
 * its NUL, as far as `len` bytes reach. Answers how many bytes all of them take. */
int AnionDmabufHeapNames(char *names, size_t len);

#ifdef __cplusplus
}
#endif

#endif
