/* SPDX-License-Identifier: Apache-2.0 */
/* A program for ION of Linux 4.12 to 5.10, whose allocations are descriptors. */
#include "ion.h"
#include "nodes.h"

#include <dirent.h>
#include <pthread.h>

#define ION "/dev/ion"

/* Heap ids in the configuration of the test. */
#define SYSTEM 25
#define CAMERA 20

static int allocate(int ion, uint64_t bytes, uint32_t mask, uint32_t flags)
{
    struct ion_allocation data = {.len = bytes, .heap_id_mask = mask, .flags = flags, .fd = 77, .unused = 99};
    return ioctl(ion, ION_ALLOC, &data) == 0 ? (int)data.fd : -1;
}

static void check_allocation(int ion)
{
    int fd = allocate(ion, 1, 1u << SYSTEM, ION_FLAG_CACHED);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    check_buffer(fd, 4096, 1);
    CHECK(close(fd) == 0);
    for (uint32_t mask = 1u << CAMERA; mask != 0; mask = mask == UINT32_MAX ? 0 : UINT32_MAX) {
        fd = allocate(ion, MIB, mask, 0);
        CHECK(fd >= 0);
        check_buffer(fd, MIB, 1);
        CHECK(close(fd) == 0);
    }
    /* ION accepts unknown flags. */
    fd = allocate(ion, 4096, 1u << SYSTEM, UINT32_MAX);
    CHECK(fd >= 0 && close(fd) == 0);
}

/* Checks the errors of Linux 5.10. */
static void check_errors(int ion)
{
    FAILS(allocate(ion, 0, UINT32_MAX, 0), EINVAL);
    FAILS(allocate(ion, UINT64_MAX, UINT32_MAX, 0), EINVAL);
    FAILS(allocate(ion, UINT64_MAX - 8191, UINT32_MAX, 0), ENOMEM);
    FAILS(allocate(ion, 128 * MIB, 1u << CAMERA, 0), ENOMEM);
    FAILS(allocate(ion, 4096, 0, 0), ENODEV);
    FAILS(allocate(ion, 4096, 1u << 30, 0), ENODEV);
    FAILS(ioctl(ion, ION_ALLOC, nowhere()), EFAULT);
    FAILS(ioctl(ion, ION_ALLOC, NULL), EFAULT);
    FAILS(ioctl(ion, ION_QUERY, nowhere()), EFAULT);
    struct ion_custom custom = {0, 0};
    struct ion_handle handle = {0};
    __u32 version;
    FAILS(ioctl(ion, ION_CUSTOM, &custom), ENOTTY);
    FAILS(ioctl(ion, ION_ABI_VERSION, &version), ENOTTY);
    /* libion distinguishes this interface from the older one by this error. */
    FAILS(ioctl(ion, ION_FREE, &handle), ENOTTY);
    char longer[64] = {0};
    FAILS(ioctl(ion, _IOWR('I', 10, longer), longer), EINVAL);
    FAILS(open(ION, O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(access(ION, X_OK), EACCES);
}

static void check_query(int ion)
{
    struct ion_query query;
    struct ion_heap heaps[8];
    memset(&query, 0, sizeof query);
    CHECK(ioctl(ion, ION_QUERY, &query) == 0 && query.cnt == 2);
    memset(heaps, 0xff, sizeof heaps);
    query.cnt = 8;
    query.heaps = (uintptr_t)heaps;
    CHECK(ioctl(ion, ION_QUERY, &query) == 0 && query.cnt == 2);
    CHECK(strcmp(heaps[0].name, "system") == 0 && heaps[0].heap_id == SYSTEM && heaps[0].type == 0);
    CHECK(strcmp(heaps[1].name, "camera") == 0 && heaps[1].heap_id == CAMERA && heaps[1].type == 2);
    CHECK(heaps[0].reserved[0] == 0 && heaps[1].reserved[2] == 0 && heaps[2].heap_id == UINT32_MAX);
    query.cnt = 1;
    memset(heaps, 0xff, sizeof heaps);
    CHECK(ioctl(ion, ION_QUERY, &query) == 0 && query.cnt == 1);
    CHECK(heaps[0].heap_id == SYSTEM && heaps[1].heap_id == UINT32_MAX);
    query.cnt = 0;
    FAILS(ioctl(ion, ION_QUERY, &query), EINVAL);
    query.cnt = 1;
    query.reserved0 = 1;
    FAILS(ioctl(ion, ION_QUERY, &query), EINVAL);
    query.reserved0 = 0;
    query.reserved2 = 1;
    FAILS(ioctl(ion, ION_QUERY, &query), EINVAL);
    query.reserved2 = 0;
    query.heaps = (uintptr_t)nowhere();
    FAILS(ioctl(ion, ION_QUERY, &query), EFAULT);
}

static void check_node(char **argv)
{
    struct stat status, of_fd;
    CHECK(access(ION, F_OK) == 0 && access(ION, R_OK | W_OK) == 0);
    CHECK(stat(ION, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev != 0);
    int ion = open(ION, O_RDWR);
    CHECK(ion >= 0 && fstat(ion, &of_fd) == 0 && of_fd.st_rdev == status.st_rdev);
    CHECK(S_ISCHR(of_fd.st_mode));
    FAILS(openat(ion, "x", O_RDONLY), ENOTDIR);
    CHECK(opendir(ION) == NULL && errno == ENOTDIR);
    int copy = dup(ion);
    CHECK(copy >= 0 && close(ion) == 0);
    int fd = allocate(copy, 4096, UINT32_MAX, 0);
    CHECK(fd >= 0 && close(fd) == 0);
    live_again(argv, copy);
    pid_t child = fork();
    if (child == 0) {
        fd = allocate(copy, 4096, UINT32_MAX, 0);
        CHECK(fd >= 0);
        check_buffer(fd, 4096, 2);
        _exit(0);
    }
    check_child(child);
    CHECK(close(copy) == 0);
    FAILS(allocate(copy, 4096, UINT32_MAX, 0), EBADF);
}

#define THREADS 8

static void *work(void *argument)
{
    for (int round = 0; round < 32; round++) {
        int fd = allocate(*(int *)argument, 16 * KIB, UINT32_MAX, 0);
        CHECK(fd >= 0);
        check_buffer(fd, 16 * KIB, 3);
        CHECK(close(fd) == 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (is_second_life(argc)) {
        int fd = allocate(atoi(argv[1]), 4096, UINT32_MAX, 0);
        CHECK(fd >= 0);
        check_buffer(fd, 4096, 1);
        return 0;
    }
    check_node(argv);
    int ion = open(ION, O_RDONLY | O_CLOEXEC);
    CHECK(ion >= 0);
    check_query(ion);
    check_allocation(ion);
    check_errors(ion);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &ion) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(close(ion) == 0);
    return 0;
}
