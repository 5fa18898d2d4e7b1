/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The class BufferAllocator of libdmabufheap. All its methods are inline and call the C functions
 * of BufferAllocatorWrapper.h, which documents them.
 *
 * Source code for Android's class compiles without changes. Object code that was compiled against
 * Android's header does not work: its class has another layout. Do not pass an object of this class
 * to the C functions, nor use an object of CreateDmabufHeapBufferAllocator() as this class.
 */
#ifndef ANION_BUFFER_ALLOCATOR_H
#define ANION_BUFFER_ALLOCATOR_H

#include <BufferAllocator/BufferAllocatorWrapper.h>

#include <cstring>
#include <functional>
#include <string>
#include <unordered_set>

/* Synchronises a buffer of a legacy ION. The library never calls it. */
using CustomCpuSyncLegacyIon = std::function<int(int, int, void *)>;

class BufferAllocator {
public:
    BufferAllocator() : allocator_(CreateDmabufHeapBufferAllocator()) {}
    ~BufferAllocator() { FreeDmabufHeapBufferAllocator(allocator_); }
    BufferAllocator(const BufferAllocator &) = delete;
    BufferAllocator &operator=(const BufferAllocator &) = delete;

    int MapNameToIonHeap(const std::string &heap_name, const std::string &ion_heap_name,
                         unsigned int ion_heap_flags = 0, unsigned int legacy_ion_heap_mask = 0,
                         unsigned int legacy_ion_heap_flags = 0)
    {
        return MapDmabufHeapNameToIonHeap(allocator_, heap_name.c_str(), ion_heap_name.c_str(),
                                          ion_heap_flags, legacy_ion_heap_mask, legacy_ion_heap_flags);
    }

    int Alloc(const std::string &heap_name, size_t len, unsigned int heap_flags = 0,
              size_t legacy_align = 0)
    {
        return DmabufHeapAlloc(allocator_, heap_name.c_str(), len, heap_flags, legacy_align);
    }

    int AllocSystem(bool cpu_access, size_t len, unsigned int heap_flags = 0, size_t legacy_align = 0)
    {
        return DmabufHeapAllocSystem(allocator_, cpu_access, len, heap_flags, legacy_align);
    }

    int CpuSyncStart(unsigned int dmabuf_fd, SyncType sync_type = kSyncRead,
                     const CustomCpuSyncLegacyIon & = nullptr, void * = nullptr)
    {
        return DmabufHeapCpuSyncStart2(allocator_, dmabuf_fd, sync_type);
    }

    int CpuSyncEnd(unsigned int dmabuf_fd, SyncType sync_type = kSyncRead,
                   const CustomCpuSyncLegacyIon & = nullptr, void * = nullptr)
    {
        return DmabufHeapCpuSyncEnd2(allocator_, dmabuf_fd, sync_type);
    }

    int DmabufSetName(unsigned int dmabuf_fd, const std::string &name)
    {
        return ::DmabufSetName(allocator_, dmabuf_fd, name.c_str());
    }

    /* Returns the names and aliases of the available heaps; an empty set if the call fails. */
    static std::unordered_set<std::string> GetDmabufHeapList()
    {
        std::string names;
        for (int bytes = AnionDmabufHeapNames(nullptr, 0); bytes > static_cast<int>(names.size());) {
            names.resize(static_cast<size_t>(bytes));
            bytes = AnionDmabufHeapNames(&names[0], names.size());
        }
        std::unordered_set<std::string> list;
        for (size_t at = 0; at < names.size() && names[at] != '\0'; at += std::strlen(&names[at]) + 1)
            list.insert(&names[at]);
        return list;
    }

    static bool CheckIonSupport() { return ::CheckIonSupport(); }

private:
    BufferAllocator *allocator_;
};

#endif
