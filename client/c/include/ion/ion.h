/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of libion over the Anion allocator service. All answer 0 or more, and a negative
 * errno on failure: -ENODEV, no heap is in the mask; -ENOMEM, -EDQUOT, no room or no quota; -EBADF,
 * -ENOTTY, `fd` is not open or not what ion_open() gave; -EINVAL, a NULL, an unknown handle;
 * -ENOTCONN, no service answers. The service is found as anionctl(1) finds it (ANION_SOCKET).
 *
 * What differs from a kernel with ION: `align` is ignored, flags beyond ION_FLAG_CACHED, too. Handles
 * are there, as on legacy kernels, but ion_is_legacy() answers 0: programs that ask are to use
 * descriptors. `fd` is a file of the process's own: close it by ion_close(). docs/porting.md has new
 * functions for each.
 */
#ifndef ANION_ION_H
#define ANION_ION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Kernels before 5.11 have this header. */
#if defined(__has_include) && __has_include(<linux/ion.h>)
#include <linux/ion.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Mappings by the CPU are cached. */
#ifndef ION_FLAG_CACHED
#define ION_FLAG_CACHED 1
#endif

#ifndef _LINUX_ION_H
/* What ion_query_get_heaps() fills. */
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

int ion_open(void);
int ion_close(int fd);
int ion_alloc(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
              ion_user_handle_t *handle);
int ion_alloc_fd(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
                 int *handle_fd);
int ion_sync_fd(int fd, int handle_fd);
int ion_free(int fd, ion_user_handle_t handle);
int ion_map(int fd, ion_user_handle_t handle, size_t length, int prot, int flags, off_t offset,
            unsigned char **ptr, int *map_fd);
int ion_share(int fd, ion_user_handle_t handle, int *share_fd);
int ion_import(int fd, int share_fd, ion_user_handle_t *handle);
int ion_query_heap_cnt(int fd, int *cnt);
int ion_query_get_heaps(int fd, int cnt, void *buffers);
int ion_is_legacy(int fd);
int ion_is_using_modular_heaps(int fd);

#ifdef __cplusplus
}
#endif

#endif
