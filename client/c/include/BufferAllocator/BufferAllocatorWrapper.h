/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C functions of libdmabufheap, implemented over the Anion allocator service. The library finds
 * the service as anionctl(1) does (ANION_SOCKET). docs/porting.md lists the function of libanion
 * that replaces each of them in new code.
 *
 * Results. Functions that return an int return 0 or a positive number on success, and a negative
 * errno on failure: -EINVAL if a required pointer is NULL. Functions that allocate also fail with
 *
 *   -ENODEV    if no heap has the name,
 *   -ENOMEM    if the memory, the heap's room or the service's descriptors are exhausted,
 *   -EDQUOT    if the request exceeds the quota of the caller's uid,
 *   -EPERM     if the uid may not use the heap,
 *   -EINVAL    if `len` is 0 or `heap_flags` is not 0,
 *   -ENOTCONN  if no service answers.
 *
 * Differences from Android's library of this name:
 *
 * - The heaps belong to the service, so the caller needs no access to a device node.
 * - Every buffer is charged to the caller's uid.
 * - A buffer is a dma-buf or a memfd, as the heap's configuration selects.
 * - The library ignores `legacy_align`, the flags and masks of ION, and functions that synchronise
 *   buffers of a legacy ION.
 *
 * Any thread may call any function, also with the same allocator, but must not free an allocator
 * while another thread uses it.
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

/* Creates an allocator; never returns NULL. The first allocation connects to the service. */
BufferAllocator *CreateDmabufHeapBufferAllocator(void);
/* Frees an allocator. Buffers stay valid. NULL does nothing. */
void FreeDmabufHeapBufferAllocator(BufferAllocator *allocator);

/* Allocates a buffer of at least `len` bytes from the heap with this name or alias: all zero,
 * unless the heap is secure. Returns its close-on-exec descriptor, which the caller closes. */
int DmabufHeapAlloc(BufferAllocator *allocator, const char *heap_name, size_t len,
                    unsigned int heap_flags, size_t legacy_align);
int DmabufHeapAlloc2(BufferAllocator *allocator, const char *heap_name, size_t len,
                     unsigned int heap_flags);

/* Does the same for the heap "system". If `cpu_access` is false, it first tries
 * "system-uncached". */
int DmabufHeapAllocSystem(BufferAllocator *allocator, bool cpu_access, size_t len,
                          unsigned int heap_flags, size_t legacy_align);
int DmabufHeapAllocSystem2(BufferAllocator *allocator, bool cpu_access, size_t len,
                           unsigned int heap_flags);

/* Makes later requests for `heap_name` also try the heap `ion_heap_name`, if no heap has the name
 * `heap_name` or that heap cannot serve the request. A later call for the same `heap_name` replaces
 * the name. Initially "system" and "system-uncached" have the alternative "ion_system_heap". An
 * empty or NULL `ion_heap_name` changes nothing. */
int MapDmabufHeapNameToIonHeap(BufferAllocator *allocator, const char *heap_name,
                               const char *ion_heap_name, unsigned int ion_heap_flags,
                               unsigned int legacy_ion_heap_mask, unsigned int legacy_ion_heap_flags);

/* Begin and end a CPU access to a mapping of the buffer (DMA_BUF_IOCTL_SYNC). Return 0 for a memfd,
 * which needs no synchronisation; -EINVAL if `sync_type` is no SyncType, -EBADF if `dmabuf_fd` is
 * not open, else the error of the buffer's exporter. */
int DmabufHeapCpuSyncStart(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type,
                           int (*legacy_ion_cpu_sync)(int, int, void *), void *data);
int DmabufHeapCpuSyncEnd(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type,
                         int (*legacy_ion_cpu_sync)(int, int, void *), void *data);
int DmabufHeapCpuSyncStart2(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type);
int DmabufHeapCpuSyncEnd2(BufferAllocator *allocator, unsigned int dmabuf_fd, SyncType sync_type);

/* Sets the name of a dma-buf, which the kernel shows. Fails with -EINVAL if `name` is longer than
 * 31 bytes, and with -ENOTTY if the buffer is no dma-buf. */
int DmabufSetName(BufferAllocator *allocator, unsigned int dmabuf_fd, const char *name);

/* Returns whether /dev/ion exists. */
bool CheckIonSupport(void);

/* Writes the names and aliases of the available heaps to `names`, each with its NUL, at most `len`
 * bytes in total. Returns the number of bytes that all of them need. Android's library does not
 * have this function. */
int AnionDmabufHeapNames(char *names, size_t len);

#ifdef __cplusplus
}
#endif

#endif
