/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libion, implemented over the Anion allocator service. The library finds the
 * service as anionctl(1) does (ANION_SOCKET). docs/porting.md lists the function of libanion that
 * replaces each of them in new code.
 *
 * Results. All functions return 0 or a positive number on success, and a negative errno on failure:
 *
 *   -EBADF     if `fd`, or the descriptor of a buffer, is not open,
 *   -ENOTTY    if `fd` was not returned by ion_open(),
 *   -EINVAL    if a pointer is NULL, a handle is unknown or `len` is 0,
 *   -ENODEV    if no heap is in the mask,
 *   -ENOMEM    if the memory, the heap's room or the service's descriptors are exhausted,
 *   -EDQUOT    if the request exceeds the quota of the caller's uid,
 *   -EPERM     if the uid may not use the heap,
 *   -ENOTCONN  if no service answers.
 *
 * Differences from a kernel with ION:
 *
 * - The library ignores `align`, and all flags except ION_FLAG_CACHED.
 * - Handles work as on kernels before 4.12, but ion_is_legacy() returns 0: programs that call it
 *   use descriptors instead.
 * - `fd` is a file of this process that stands for the device. Close it with ion_close().
 */
#ifndef ANION_ION_H
#define ANION_ION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The headers of kernels before 5.11 contain this file. */
#if defined(__has_include) && __has_include(<linux/ion.h>)
#include <linux/ion.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Selects heaps whose CPU mappings are cached. */
#ifndef ION_FLAG_CACHED
#define ION_FLAG_CACHED 1
#endif

#ifndef _LINUX_ION_H
/* A heap, as ion_query_get_heaps() describes it. */
struct ion_heap_data {
    char name[32];
    uint32_t type;
    uint32_t heap_id;
    uint32_t reserved0;
    uint32_t reserved1;
    uint32_t reserved2;
};
#endif

typedef int ion_user_handle_t;

/* Opens the device: returns `fd` for the other functions. Fails with -ENOTCONN if no service
 * answers. */
int ion_open(void);
/* Closes `fd`. The handles are freed once all duplicates of `fd` are closed. */
int ion_close(int fd);
/* Allocates a buffer of at least `len` bytes from the heaps in `heap_mask`, by descending id, and
 * stores a handle of it. */
int ion_alloc(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
              ion_user_handle_t *handle);
/* Does the same, and stores a close-on-exec descriptor, which the caller closes. */
int ion_alloc_fd(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
                 int *handle_fd);
/* Makes data that the CPU wrote visible to devices, and data that devices wrote visible to the CPU.
 * Fails with -EINVAL if `handle_fd` is no buffer of the service. */
int ion_sync_fd(int fd, int handle_fd);
/* Drops a reference to a handle; the last one frees it. Descriptors and mappings stay valid. */
int ion_free(int fd, ion_user_handle_t handle);
/* Maps the buffer of a handle as mmap(2) does, and stores the address and a new descriptor. Fails
 * with -EINVAL if `flags` has MAP_FIXED or MAP_ANONYMOUS, else with the errors of mmap(2). */
int ion_map(int fd, ion_user_handle_t handle, size_t length, int prot, int flags, off_t offset,
            unsigned char **ptr, int *map_fd);
/* Stores a new descriptor of a handle's buffer, which the caller closes. */
int ion_share(int fd, ion_user_handle_t handle, int *share_fd);
/* Stores a handle for a buffer's descriptor: another reference to the existing handle, if the
 * buffer has one. Fails with -EINVAL if `share_fd` is no buffer of the service. */
int ion_import(int fd, int share_fd, ion_user_handle_t *handle);
/* Stores the number of available heaps. */
int ion_query_heap_cnt(int fd, int *cnt);
/* Writes at most `cnt` available heaps to an array of struct ion_heap_data, by descending id. */
int ion_query_get_heaps(int fd, int cnt, void *buffers);
/* Return 0. Heaps have the ids of the service's configuration. */
int ion_is_legacy(int fd);
int ion_is_using_modular_heaps(int fd);

#ifdef __cplusplus
}
#endif

#endif
