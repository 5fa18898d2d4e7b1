/* SPDX-License-Identifier: Apache-2.0 */
/* A program for ION before Linux 4.12, whose allocations are handles of the open device. */
#include "ion.h"
#include "nodes.h"

#include <pthread.h>

#define ION "/dev/ion"

static int allocate(int ion, size_t bytes)
{
    struct ion_legacy_allocation data = {.len = bytes, .heap_id_mask = ~0u, .flags = ION_FLAG_CACHED};
    return ioctl(ion, ION_LEGACY_ALLOC, &data) == 0 ? data.handle : -1;
}

static int release(int ion, int handle)
{
    struct ion_handle data = {handle};
    return ioctl(ion, ION_FREE, &data);
}

static int share_by(int ion, unsigned long request, int handle)
{
    struct ion_fd data = {.handle = handle, .fd = -1};
    return ioctl(ion, request, &data) == 0 ? data.fd : -1;
}

static int import(int ion, int fd)
{
    struct ion_fd data = {.handle = -1, .fd = fd};
    return ioctl(ion, ION_IMPORT, &data) == 0 ? data.handle : -1;
}

static void check_handles(int ion)
{
    int handle = allocate(ion, 64 * KIB), other = allocate(ion, 4096);
    CHECK(handle >= 1 && other >= 1 && other != handle);
    int fd = share_by(ion, ION_SHARE, handle), mapped = share_by(ion, ION_MAP, handle);
    CHECK(fd >= 0 && mapped >= 0 && mapped != fd && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    check_buffer(fd, 64 * KIB, 5);
    check_mark(mapped, 5);
    CHECK(close(mapped) == 0);

    /* An import of the same buffer returns the same handle and adds a reference. */
    CHECK(import(ion, fd) == handle);
    CHECK(release(ion, handle) == 0);
    mapped = share_by(ion, ION_SHARE, handle);
    CHECK(mapped >= 0 && close(mapped) == 0);
    CHECK(release(ion, handle) == 0);
    FAILS(release(ion, handle), EINVAL);
    FAILS(share_by(ion, ION_SHARE, handle), EINVAL);

    /* The descriptor keeps the buffer, which another open device can import. */
    check_mark(fd, 5);
    int second = open(ION, O_RDONLY | O_CLOEXEC);
    CHECK(second >= 0);
    handle = import(second, fd);
    CHECK(handle == 1);
    struct ion_fd sync = {.fd = fd};
    CHECK(ioctl(second, ION_SYNC, &sync) == 0);
    CHECK(close(fd) == 0);
    fd = share_by(second, ION_SHARE, handle);
    CHECK(fd >= 0);
    check_mark(fd, 5);
    CHECK(close(fd) == 0);

    /* A duplicate refers to the same open device. */
    int copy = dup(second);
    CHECK(copy >= 0 && close(second) == 0 && release(copy, handle) == 0);
    FAILS(release(copy, handle), EINVAL);
    CHECK(close(copy) == 0 && release(ion, other) == 0);
}

static void check_errors(int ion)
{
    struct ion_legacy_allocation data = {.len = 0, .heap_id_mask = ~0u};
    FAILS(ioctl(ion, ION_LEGACY_ALLOC, &data), EINVAL);
    data.len = 4096;
    data.heap_id_mask = 0;
    FAILS(ioctl(ion, ION_LEGACY_ALLOC, &data), ENODEV);
    data.heap_id_mask = 1u << 30;
    FAILS(ioctl(ion, ION_LEGACY_ALLOC, &data), ENODEV);
    FAILS(ioctl(ion, ION_LEGACY_ALLOC, nowhere()), EFAULT);
    FAILS(release(ion, 1234), EINVAL);
    FAILS(ioctl(ion, ION_FREE, nowhere()), EFAULT);
    FAILS(share_by(ion, ION_SHARE, 1234), EINVAL);
    FAILS(share_by(ion, ION_MAP, 0), EINVAL);
    FAILS(import(ion, -1), EBADF);
    FAILS(import(ion, 1 << 20), EBADF);
    FAILS(import(ion, ion), EINVAL);
    struct ion_fd sync = {.fd = ion};
    FAILS(ioctl(ion, ION_SYNC, &sync), EINVAL);
    sync.fd = -1;
    FAILS(ioctl(ion, ION_SYNC, &sync), EBADF);
    struct ion_custom custom = {1, 0};
    FAILS(ioctl(ion, ION_CUSTOM, &custom), ENOTTY);
}

/* Returns how many of the descriptors 0 to 1023 are open. */
static int descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Checks that closing an open device frees its handles. */
static void check_close(void)
{
    int before = descriptors();
    int ion = open(ION, O_RDONLY | O_CLOEXEC);
    CHECK(ion >= 0);
    for (int i = 0; i < 16; i++)
        CHECK(allocate(ion, 64 * KIB) == i + 1);
    CHECK(descriptors() > before);
    CHECK(close(ion) == 0);
    CHECK(descriptors() == before);
}

static void check_children(int ion)
{
    int handle = allocate(ion, 4096);
    CHECK(handle >= 1);
    int fd = share_by(ion, ION_SHARE, handle);
    check_buffer(fd, 4096, 9);
    pid_t child = fork();
    if (child == 0) {
        int shared = share_by(ion, ION_SHARE, handle);
        CHECK(shared >= 0);
        check_mark(shared, 9);
        int own = allocate(ion, 4096);
        CHECK(own >= 1 && own != handle && release(ion, own) == 0);
        _exit(0);
    }
    check_child(child);
    CHECK(close(fd) == 0 && release(ion, handle) == 0);
}

#define THREADS 8

static void *work(void *argument)
{
    int ion = *(int *)argument;
    for (int round = 0; round < 32; round++) {
        int handle = allocate(ion, 16 * KIB);
        CHECK(handle >= 1);
        int fd = share_by(ion, ION_SHARE, handle);
        CHECK(fd >= 0 && release(ion, handle) == 0);
        check_buffer(fd, 16 * KIB, 3);
        CHECK(close(fd) == 0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    (void)argv;
    int ion = open(ION, O_RDONLY | O_CLOEXEC);
    CHECK(ion >= 0 && argc >= 1);
    check_handles(ion);
    check_errors(ion);
    check_children(ion);
    check_close();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &ion) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(close(ion) == 0);
    return 0;
}
