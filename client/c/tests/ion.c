/* SPDX-License-Identifier: Apache-2.0 */
/* Tests every function of libion as programs for old and for new kernels call it. */
#include <ion/ion.h>

#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

static anion_client *client;

/* Returns the mask of the heap with this name, found by the query functions; 0 if there is none. */
static unsigned int mask_of(int ion, const char *name)
{
    int count;
    struct ion_heap_data heaps[32];
    CHECK(ion_query_heap_cnt(ion, &count) == 0 && count == 2);
    CHECK(ion_query_get_heaps(ion, count, heaps) == 0);
    for (int i = 0; i < count; i++)
        if (strcmp(heaps[i].name, name) == 0) return 1u << heaps[i].heap_id;
    return 0;
}

static void descriptors(int ion)
{
    int fd;
    unsigned int system = mask_of(ion, "system"), camera = mask_of(ion, "camera");
    CHECK(system == 1u << 25 && camera == 1u << 20);
    const size_t sizes[] = {4 << 10, 64 << 10, 1 << 20, 2 << 20};
    for (int i = 0; i < 4; i++) {
        CHECK(ion_alloc_fd(ion, sizes[i], 0, i % 2 ? camera : system, ION_FLAG_CACHED, &fd) == 0);
        unsigned char *bytes = mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(bytes != MAP_FAILED && bytes[0] == 0 && bytes[sizes[i] - 1] == 0);
        memset(bytes, 0x5a, sizes[i]);
        CHECK(ion_sync_fd(ion, fd) == 0);
        CHECK(munmap(bytes, sizes[i]) == 0 && close(fd) == 0);
    }
    CHECK(ion_alloc_fd(ion, 4096, 0, 0, 0, &fd) == -ENODEV);
    CHECK(ion_alloc_fd(ion, 4096, 0, 1, 0, &fd) == -ENODEV);
    CHECK(ion_alloc_fd(ion, 0, 0, system, 0, &fd) == -EINVAL);
    CHECK(ion_alloc_fd(ion, 65 << 20, 0, camera, 0, &fd) == -ENOMEM);
    CHECK(ion_alloc_fd(ion, (size_t)2 << 30, 0, system, 0, &fd) == -EDQUOT);
    CHECK(ion_alloc_fd(ion, 4096, 0, system, 0, NULL) == -EINVAL);
    CHECK(ion_alloc_fd(-1, 4096, 0, system, 0, &fd) == -EBADF);
    CHECK(ion_sync_fd(ion, -1) == -EBADF && ion_sync_fd(-1, ion) == -EBADF);
    EVENTUALLY(held_of(client).buffers == 0);
}

static void handles(int ion)
{
    ion_user_handle_t handle, same, other;
    int shared, mapped, again;
    unsigned char *bytes, *more;
    CHECK(ion_alloc(ion, 8192, 4096, 1u << 25, 0, &handle) == 0 && handle > 0);
    CHECK(ion_map(ion, handle, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &bytes, &mapped) == 0);
    bytes[4096] = 7;
    CHECK(ion_share(ion, handle, &shared) == 0 && shared != mapped);
    CHECK(ion_import(ion, shared, &same) == 0 && same == handle);
    CHECK(ion_alloc(ion, 4096, 0, 1u << 25, 0, &other) == 0 && other != handle);
    CHECK(ion_free(ion, other) == 0 && ion_free(ion, other) == -EINVAL);
    CHECK(ion_map(ion, same, 4096, PROT_READ, MAP_SHARED, 4096, &more, &again) == 0);
    CHECK(more[0] == 7 && munmap(more, 4096) == 0 && close(again) == 0 && close(mapped) == 0);
    CHECK(ion_free(ion, handle) == 0 && ion_free(ion, same) == 0 && ion_free(ion, same) == -EINVAL);
    CHECK(ion_share(ion, handle, &mapped) == -EINVAL);
    CHECK(bytes[4096] == 7 && munmap(bytes, 8192) == 0);

    /* Another client of the same process has its own handles. */
    int second = ion_open();
    CHECK(second >= 0 && ion_import(second, shared, &other) == 0);
    CHECK(ion_free(ion, other) == -EINVAL && ion_share(second, other, &again) == 0);
    int copy = dup(second);
    CHECK(ion_free(copy, other) == 0 && close(copy) == 0);
    CHECK(ion_close(second) == 0 && ion_close(second) == -EBADF);
    CHECK(close(again) == 0);

    CHECK(ion_alloc(ion, 1, 0, 0, 0, &handle) == -ENODEV && ion_alloc(-1, 1, 0, 1, 0, &handle) == -EBADF);
    CHECK(ion_alloc(ion, 1, 0, 1u << 25, 0, NULL) == -EINVAL && ion_share(ion, 1, NULL) == -EINVAL);
    CHECK(ion_import(ion, -1, &handle) == -EBADF && ion_import(ion, shared, NULL) == -EINVAL);
    CHECK(ion_import(ion, ion, &handle) == -EINVAL && ion_free(-1, 1) == -EBADF);
    CHECK(ion_map(ion, 99, 1, PROT_READ, MAP_SHARED, 0, &bytes, &mapped) == -EINVAL);
    CHECK(ion_map(ion, 99, 1, PROT_READ, MAP_SHARED, 0, NULL, &mapped) == -EINVAL);
    CHECK(ion_alloc(ion, 4096, 0, 1u << 25, 0, &handle) == 0);
    CHECK(ion_map(ion, handle, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, 0, &bytes, &mapped) == -EINVAL);
    CHECK(ion_map(ion, handle, 4096, PROT_READ, MAP_SHARED, 1, &bytes, &mapped) == -EINVAL);
    CHECK(ion_free(ion, handle) == 0 && close(shared) == 0);
    EVENTUALLY(held_of(client).buffers == 0);
}

int main(void)
{
    client = connected();
    int ion = ion_open(), other = open("/dev/null", O_RDONLY), count;
    CHECK(ion >= 0 && other >= 0);
    CHECK(ion_is_legacy(ion) == 0 && ion_is_using_modular_heaps(ion) == 0);
    descriptors(ion);
    handles(ion);
    CHECK(ion_close(other) == -ENOTTY && ion_query_heap_cnt(other, &count) == -ENOTTY);
    CHECK(ion_query_heap_cnt(ion, NULL) == -EINVAL && ion_query_get_heaps(ion, 1, NULL) == -EINVAL);
    struct ion_heap_data heap;
    CHECK(ion_query_get_heaps(ion, 1, &heap) == 0 && strcmp(heap.name, "system") == 0);
    CHECK(heap.type == ANION_KIND_SYSTEM && ion_query_get_heaps(ion, -1, &heap) == -EINVAL);

    /* A child of fork can call all functions; calls continue after the service restarts. */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        descriptors(ion);
        handles(ion);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    ion_user_handle_t kept;
    CHECK(ion_alloc(ion, 4096, 0, 1u << 25, 0, &kept) == 0);
    restart_service();
    int fd;
    CHECK(ion_share(ion, kept, &fd) == 0 && close(fd) == 0);
    CHECK(ion_alloc_fd(ion, 4096, 0, ~0u, 0, &fd) == 0 && close(fd) == 0);
    /* The exit of the process releases a handle that was not freed. */
    CHECK(ion_alloc(ion, 4096, 0, ~0u, 0, &kept) == 0);
    anion_client_free(client);
    return close(other);
}
