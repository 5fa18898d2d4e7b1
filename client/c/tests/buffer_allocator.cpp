/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the class BufferAllocator of libdmabufheap as code for Android uses it. */
#include <BufferAllocator/BufferAllocator.h>

#include "check.h"

#include <memory>
#include <sys/mman.h>

int main()
{
    anion_client *client = connected();
    auto allocator = std::make_unique<BufferAllocator>();
    CHECK(BufferAllocator::GetDmabufHeapList() ==
          (std::unordered_set<std::string>{"system", "ion_system_heap", "camera"}));
    CHECK(BufferAllocator::CheckIonSupport() == (access("/dev/ion", F_OK) == 0));

    const std::string heap = kDmabufSystemHeapName;
    int fd = allocator->Alloc(heap, 1 << 20);
    CHECK(fd >= 0 && held_of(client).bytes == MIB);
    void *bytes = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(bytes != MAP_FAILED);
    CHECK(allocator->CpuSyncStart(fd) == 0 && allocator->CpuSyncEnd(fd) == 0);
    auto never = [](int, int, void *) -> int { abort(); };
    CHECK(allocator->CpuSyncStart(fd, kSyncReadWrite, never, nullptr) == 0);
    memset(bytes, 1, 1 << 20);
    CHECK(allocator->CpuSyncEnd(fd, kSyncReadWrite, never) == 0);
    CHECK(munmap(bytes, 1 << 20) == 0);
    CHECK(allocator->DmabufSetName(fd, "frame") == -ENOTTY);
    CHECK(close(fd) == 0);

    CHECK(close(allocator->AllocSystem(false, 4096)) == 0);
    CHECK(close(allocator->AllocSystem(true, 4096, 0, 0)) == 0);
    CHECK(allocator->Alloc("vendor,preview", 4096) == -ENODEV);
    CHECK(allocator->MapNameToIonHeap("vendor,preview", "camera") == 0);
    CHECK(close(allocator->Alloc("vendor,preview", 4096)) == 0);
    allocator.reset();
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
