// SPDX-License-Identifier: Apache-2.0
//! The heaps that there are, and their counters.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, make};
use crate::record::Record;
use crate::sys;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapInfo::HeapInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapStats::HeapStats;

/// CPU mappings are cached.
pub const ANION_HEAP_CACHED: u32 = 1;
/// Every buffer is one physically contiguous piece, whatever its size.
pub const ANION_HEAP_CONTIGUOUS: u32 = 2;
/// Every buffer is zero when it is handed out.
pub const ANION_HEAP_ZEROED: u32 = 4;
/// Released memory is cleaned in the background before it is reused.
pub const ANION_HEAP_DEFERRED_FREE: u32 = 8;
/// The CPU can never map the buffers.
pub const ANION_HEAP_SECURE: u32 = 16;
/// Buffers can be had with ANION_READ_ONLY.
pub const ANION_HEAP_READ_ONLY: u32 = 32;

/// Ordinary memory, page by page.
pub const ANION_KIND_SYSTEM: u32 = 0;
/// Ordinary memory in one physical piece: at most a huge page.
pub const ANION_KIND_SYSTEM_CONTIG: u32 = 1;
/// Memory set aside for the heap when the service starts.
pub const ANION_KIND_CARVEOUT: u32 = 2;
/// Memory set aside, handed out in chunks of one size.
pub const ANION_KIND_CHUNK: u32 = 3;
/// The kernel's contiguous memory allocator, or memory set aside in its place.
pub const ANION_KIND_DMA: u32 = 4;
/// An ordered list of other sources, or a vendor's own.
pub const ANION_KIND_CUSTOM: u32 = 5;

/// A sealed memfd: shared memory.
pub const ANION_BACKING_MEMFD: u32 = 0;
/// An ashmem region.
pub const ANION_BACKING_ASHMEM: u32 = 1;
/// A dma-buf made by /dev/udmabuf.
pub const ANION_BACKING_UDMABUF: u32 = 2;
/// A dma-buf of one of the kernel's dma-heaps.
pub const ANION_BACKING_DMA_HEAP: u32 = 3;
/// A dma-buf of the kernel's ion device.
pub const ANION_BACKING_ION: u32 = 4;
/// A memfd of huge pages.
pub const ANION_BACKING_HUGETLB: u32 = 5;

/// The kernel reports the last close of a buffer, and a lease confirms it: released at once.
pub const ANION_RELEASE_CLOSE_EVENTS: u32 = 0;
/// Leases are asked now and then: released within half a second.
pub const ANION_RELEASE_LEASES: u32 = 1;
/// References of dma-bufs are counted now and then: released within half a second.
pub const ANION_RELEASE_REFERENCE_COUNTS: u32 = 2;
/// The kernel does not tell: a buffer is the process's until it frees the anion_buffer.
pub const ANION_RELEASE_TOKEN: u32 = 3;

/// Counters of a heap since the service started.
#[repr(C)]
#[derive(Default)]
pub struct anion_heap_stats {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// ION's num_of_buffers: buffers that exist, deferred frees included.
    pub num_of_buffers: u64,
    /// ION's num_of_alloc_bytes: their bytes, without pooled memory.
    pub num_of_alloc_bytes: u64,
    /// ION's alloc_bytes_wm: the highest num_of_alloc_bytes ever.
    pub alloc_bytes_wm: u64,
    /// Bytes held by clients.
    pub live_bytes: u64,
    /// Bytes released and waiting to be cleaned or returned.
    pub deferred_bytes: u64,
    /// Clean bytes kept ready for reuse.
    pub pooled_bytes: u64,
    /// Bytes held ready for clients that reserved them.
    pub reserved_bytes: u64,
    /// Bytes that the heap can hold at once; 0 if only the machine's memory limits it.
    pub capacity: u64,
    /// Largest buffer that the free part of memory set aside could hold; 0 if none is set aside.
    pub largest_free_bytes: u64,
    /// Buffers handed out.
    pub allocations: u64,
    /// Buffers released.
    pub frees: u64,
    /// Buffers served from pooled memory.
    pub recycled: u64,
    /// Buffers of a pooled heap that had to be made, though large enough to be pooled.
    pub pool_misses: u64,
    /// Requests refused for lack of memory, room or descriptors.
    pub failures_no_memory: u64,
    /// Of these, those that fragmentation alone stood against.
    pub failures_fragmented: u64,
    /// Requests refused by the caller's quota.
    pub failures_quota: u64,
    /// Requests refused because the caller may not use the heap.
    pub failures_not_permitted: u64,
    /// Requests for what the heap can never give.
    pub failures_unsupported: u64,
    /// Requests that the kernel failed unexpectedly.
    pub failures_backend: u64,
    /// How long allocations took: element 0 counts those of less than 1 us, element n those of at
    /// least 2^(n-1) us and less than 2^n us, the last one all longer ones.
    pub latency: *const u64,
    /// Elements of `latency`.
    pub latency_count: usize,
}

/// A configured heap.
#[repr(C)]
#[derive(Default)]
pub struct anion_heap {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// Its bit in masks, 0 to 31, and its rank: higher ids are tried first.
    pub id: u32,
    /// ANION_KIND_ (ION's numbers); newer ones may appear.
    pub kind: u32,
    /// ANION_BACKING_ of the buffers that it gives first; newer ones may appear.
    pub backing: u32,
    /// ANION_HEAP_ bits.
    pub flags: u32,
    /// ANION_RELEASE_: how releases of its buffers are noticed.
    pub release: u32,
    /// Its name.
    pub name: *const c_char,
    /// Other names that it answers to, with NULL after the last one.
    pub aliases: *const *const c_char,
    /// Why nothing can come from it on this machine; NULL if something can.
    pub unavailable: *const c_char,
    /// Sources that the configuration prefers, and why each cannot be used; empty if there is none.
    pub passed_over: *const c_char,
    /// Bytes that it can hold at once; 0 if only the machine's memory limits it.
    pub capacity: u64,
    /// Bytes: sizes are rounded up to a multiple of it.
    pub granule: u64,
    /// Largest alignment in bytes that a request may ask for.
    pub max_alignment: u64,
    /// Its counters; NULL if the service has none for it.
    pub stats: *const anion_heap_stats,
}

/// All configured heaps, unavailable ones included, in the order in which they are tried.
#[repr(C)]
#[derive(Default)]
pub struct anion_heaps {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// How many there are.
    pub count: usize,
    /// Each of them.
    pub heaps: *const *const anion_heap,
}

/// Lists the heaps with their counters.
#[unsafe(no_mangle)]
pub extern "C" fn anion_list_heaps(
    client: Option<&anion_client>,
    heaps: Option<&mut MaybeUninit<*mut anion_heaps>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(heaps, "heaps", error, || {
        let (heaps, stats) =
            client_of(client)?.call(|service| Ok((service.listHeaps()?, service.getStats()?)))?;
        let mut record = Record::<anion_heaps>::default();
        let count = heaps.len();
        let counters = |heap: &HeapInfo| stats.iter().find(|stats| stats.heapId == heap.id);
        let heaps = heaps.iter().map(|heap| heap_of(&mut record, heap, counters(heap))).collect();
        let heaps = record.pointers(heaps);
        record.head = anion_heaps { struct_size: size_of::<anion_heaps>(), count, heaps };
        Ok(record.into_c())
    })
}

/// Frees a list of heaps.
#[unsafe(no_mangle)]
pub extern "C" fn anion_heaps_free(heaps: *mut anion_heaps) {
    sys::free_record(heaps);
}

/// Returns a number of the interface, which has no unsigned ones; 0 for a negative one.
pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn heap_of(record: &mut Record<anion_heaps>, heap: &HeapInfo, stats: Option<&HeapStats>) -> anion_heap {
    let stats = stats.map_or(ptr::null(), |stats| {
        let stats = stats_of(record, stats);
        record.keep(vec![stats])
    });
    anion_heap {
        struct_size: size_of::<anion_heap>(),
        id: heap.id.cast_unsigned(),
        kind: heap.r#type.0.cast_unsigned(),
        backing: heap.backing.0.cast_unsigned(),
        flags: heap.flags.cast_unsigned(),
        release: heap.releaseMechanism.0.cast_unsigned(),
        name: record.text(&heap.name),
        aliases: record.texts(&heap.aliases),
        unavailable: if heap.available { ptr::null() } else { record.text(&heap.unavailableReason) },
        passed_over: record.text(&heap.passedOver),
        capacity: number(heap.capacity),
        granule: number(heap.granule),
        max_alignment: number(heap.maxAlignment),
        stats,
    }
}

fn stats_of(record: &mut Record<anion_heaps>, stats: &HeapStats) -> anion_heap_stats {
    anion_heap_stats {
        struct_size: size_of::<anion_heap_stats>(),
        num_of_buffers: number(stats.numOfBuffers),
        num_of_alloc_bytes: number(stats.numOfAllocBytes),
        alloc_bytes_wm: number(stats.allocBytesWm),
        live_bytes: number(stats.liveBytes),
        deferred_bytes: number(stats.deferredBytes),
        pooled_bytes: number(stats.pooledBytes),
        reserved_bytes: number(stats.reservedBytes),
        capacity: number(stats.capacity),
        largest_free_bytes: number(stats.largestFreeBytes),
        allocations: number(stats.allocations),
        frees: number(stats.frees),
        recycled: number(stats.recycled),
        pool_misses: number(stats.poolMisses),
        failures_no_memory: number(stats.failuresNoMemory),
        failures_fragmented: number(stats.failuresFragmented),
        failures_quota: number(stats.failuresQuota),
        failures_not_permitted: number(stats.failuresNotPermitted),
        failures_unsupported: number(stats.failuresUnsupported),
        failures_backend: number(stats.failuresBackend),
        latency: record.keep(stats.allocateLatency.iter().copied().map(number).collect()),
        latency_count: stats.allocateLatency.len(),
    }
}
