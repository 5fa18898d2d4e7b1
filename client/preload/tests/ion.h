/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of /dev/ion, which Debian's kernel headers no longer contain. */
#ifndef ION_REQUESTS_H
#define ION_REQUESTS_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <stddef.h>

#define ION_FLAG_CACHED 1

/* The interface of Linux 4.12 to 5.10, whose allocations are descriptors. */
struct ion_allocation {
    __u64 len;
    __u32 heap_id_mask, flags, fd, unused;
};

struct ion_heap {
    char name[32];
    __u32 type, heap_id, reserved[3];
};

struct ion_query {
    __u32 cnt, reserved0;
    __u64 heaps;
    __u32 reserved1, reserved2;
};

#define ION_ALLOC _IOWR('I', 0, struct ion_allocation)
#define ION_QUERY _IOWR('I', 8, struct ion_query)
#define ION_ABI_VERSION _IOR('I', 9, __u32)

/* The interface of Linux before 4.12, whose allocations are handles. */
struct ion_legacy_allocation {
    size_t len, align;
    unsigned int heap_id_mask, flags;
    int handle;
};

struct ion_handle {
    int handle;
};

struct ion_fd {
    int handle, fd;
};

struct ion_custom {
    unsigned int cmd;
    unsigned long arg;
};

#define ION_LEGACY_ALLOC _IOWR('I', 0, struct ion_legacy_allocation)
#define ION_FREE _IOWR('I', 1, struct ion_handle)
#define ION_MAP _IOWR('I', 2, struct ion_fd)
#define ION_SHARE _IOWR('I', 4, struct ion_fd)
#define ION_IMPORT _IOWR('I', 5, struct ion_fd)
#define ION_CUSTOM _IOWR('I', 6, struct ion_custom)
#define ION_SYNC _IOWR('I', 7, struct ion_fd)

#endif
