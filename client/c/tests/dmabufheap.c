/* SPDX-License-Identifier: Apache-2.0 */
/* Tests every C function of libdmabufheap. libanion reports the buffers that are held. */
#include <BufferAllocator/BufferAllocatorWrapper.h>

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

enum { THREADS = 4 };

static BufferAllocator *allocator;

static int never(int ion, int fd, void *data)
{
    (void)ion, (void)fd, (void)data;
    abort();
}

/* Checks that a buffer is zero, fills it, synchronises it and closes it. */
static void use(int fd, size_t len)
{
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    unsigned char *bytes = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(bytes != MAP_FAILED);
    CHECK(DmabufHeapCpuSyncStart(allocator, (unsigned)fd, kSyncReadWrite, never, NULL) == 0);
    for (size_t i = 0; i < len; i++) CHECK(bytes[i] == 0);
    memset(bytes, 0xa5, len);
    CHECK(DmabufHeapCpuSyncEnd(allocator, (unsigned)fd, kSyncReadWrite, never, NULL) == 0);
    CHECK(DmabufHeapCpuSyncStart2(allocator, (unsigned)fd, kSyncRead) == 0);
    CHECK(DmabufHeapCpuSyncEnd2(allocator, (unsigned)fd, kSyncRead) == 0);
    CHECK(munmap(bytes, len) == 0 && close(fd) == 0);
}

static void *many(void *data)
{
    for (int i = 0; i < 25; i++) use(DmabufHeapAlloc(allocator, data, 64 << 10, 0, 0), 64 << 10);
    return NULL;
}

int main(void)
{
    anion_client *client = connected();
    allocator = CreateDmabufHeapBufferAllocator();
    CHECK(allocator != NULL);
    const size_t sizes[] = {4 << 10, 64 << 10, 1 << 20, 2 << 20};
    for (int i = 0; i < 4; i++) {
        use(DmabufHeapAlloc(allocator, kDmabufSystemHeapName, sizes[i], 0, 0), sizes[i]);
        use(DmabufHeapAlloc(allocator, kDmabufSystemUncachedHeapName, sizes[i], 0, 3), sizes[i]);
        use(DmabufHeapAlloc2(allocator, "camera", sizes[i], 0), sizes[i]);
        use(DmabufHeapAllocSystem(allocator, true, sizes[i], 0, 0), sizes[i]);
        use(DmabufHeapAllocSystem2(allocator, false, sizes[i], 0), sizes[i]);
    }
    int fd = DmabufHeapAlloc(allocator, "camera", 1 << 20, 0, 0);
    EVENTUALLY(held_of(client).bytes == MIB);
    CHECK(DmabufSetName(allocator, (unsigned)fd, "frame") == -ENOTTY);

    CHECK(DmabufHeapAlloc(allocator, "vendor,preview", 1, 0, 0) == -ENODEV);
    CHECK(MapDmabufHeapNameToIonHeap(allocator, "vendor,preview", "", 0, 0, 0) == 0);
    CHECK(DmabufHeapAlloc(allocator, "vendor,preview", 1, 0, 0) == -ENODEV);
    CHECK(MapDmabufHeapNameToIonHeap(allocator, "vendor,preview", "camera", 0, 1, 0) == 0);
    use(DmabufHeapAlloc(allocator, "vendor,preview", 4096, 0, 0), 4096);

    CHECK(DmabufHeapAlloc(NULL, "system", 1, 0, 0) == -EINVAL);
    CHECK(DmabufHeapAlloc(allocator, NULL, 1, 0, 0) == -EINVAL);
    CHECK(DmabufHeapAlloc(allocator, "system", 0, 0, 0) == -EINVAL);
    CHECK(DmabufHeapAlloc(allocator, "system", 1, 1, 0) == -EINVAL);
    CHECK(DmabufHeapAlloc(allocator, "camera", 65 << 20, 0, 0) == -ENOMEM);
    CHECK(DmabufHeapAllocSystem(NULL, true, 1, 0, 0) == -EINVAL);
    CHECK(MapDmabufHeapNameToIonHeap(NULL, "a", "b", 0, 0, 0) == -EINVAL);
    CHECK(MapDmabufHeapNameToIonHeap(allocator, NULL, "b", 0, 0, 0) == -EINVAL);
    CHECK(DmabufHeapCpuSyncStart2(NULL, (unsigned)fd, kSyncRead) == -EINVAL);
    CHECK(DmabufHeapCpuSyncStart2(allocator, (unsigned)fd, (SyncType)0) == -EINVAL);
    CHECK(DmabufHeapCpuSyncEnd2(allocator, (unsigned)-1, kSyncRead) == -EBADF);
    CHECK(DmabufHeapCpuSyncEnd(allocator, 1000000, kSyncRead, NULL, NULL) == -EBADF);
    CHECK(DmabufSetName(NULL, (unsigned)fd, "x") == -EINVAL);
    CHECK(DmabufSetName(allocator, (unsigned)fd, NULL) == -EINVAL);
    CHECK(CheckIonSupport() == (access("/dev/ion", F_OK) == 0));
    CHECK(close(fd) == 0);

    char names[64];
    int bytes = AnionDmabufHeapNames(names, sizeof names);
    CHECK(bytes == sizeof "ion_system_heap" + sizeof "system" + sizeof "camera");
    CHECK(memcmp(names, "ion_system_heap\0system\0camera", (size_t)bytes) == 0);
    CHECK(AnionDmabufHeapNames(NULL, 0) == bytes);

    pthread_t threads[THREADS];
    static char camera[] = "camera", system[] = "system";
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, many, i % 2 == 0 ? camera : system) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);

    restart_service();
    use(DmabufHeapAlloc(allocator, "system", 4096, 0, 0), 4096);
    FreeDmabufHeapBufferAllocator(allocator);
    FreeDmabufHeapBufferAllocator(NULL);
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
