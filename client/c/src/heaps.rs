// SPDX-License-Identifier: Apache-2.0
//! Heaps and their counters.

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
/// Every buffer is one physically contiguous piece, of any size.
pub const ANION_HEAP_CONTIGUOUS: u32 = 2;
/// Every buffer is zero when the service hands it out.
pub const ANION_HEAP_ZEROED: u32 = 4;
/// The service cleans released memory in the background before reuse.
pub const ANION_HEAP_DEFERRED_FREE: u32 = 8;
/// The CPU can never map the buffers.
pub const ANION_HEAP_SECURE: u32 = 16;
/// The heap can give buffers with ANION_READ_ONLY.
pub const ANION_HEAP_READ_ONLY: u32 = 32;

/// Ordinary memory, page by page.
pub const ANION_KIND_SYSTEM: u32 = 0;
/// Ordinary memory in one physical piece: at most a huge page.
pub const ANION_KIND_SYSTEM_CONTIG: u32 = 1;
/// Memory set aside for the heap when the service starts.
pub const ANION_KIND_CARVEOUT: u32 = 2;
/// Memory set aside, which is handed out in chunks of one size.
pub const ANION_KIND_CHUNK: u32 = 3;
/// The kernel's contiguous memory allocator, or memory set aside instead.
pub const ANION_KIND_DMA: u32 = 4;
/// An ordered list of other sources, or a vendor's own.
pub const ANION_KIND_CUSTOM: u32 = 5;

/// A sealed memfd: shared memory.
pub const ANION_BACKING_MEMFD: u32 = 0;
/// An ashmem region.
pub const ANION_BACKING_ASHMEM: u32 = 1;
/// A dma-buf that /dev/udmabuf made.
pub const ANION_BACKING_UDMABUF: u32 = 2;
/// A dma-buf of one of the kernel's dma-heaps.
pub const ANION_BACKING_DMA_HEAP: u32 = 3;
/// A dma-buf of the kernel's ion device.
pub const ANION_BACKING_ION: u32 = 4;
/// A memfd of huge pages.
pub const ANION_BACKING_HUGETLB: u32 = 5;

/// The kernel reports the last close, and a lease confirms it: the release is immediate.
pub const ANION_RELEASE_CLOSE_EVENTS: u32 = 0;
/// The service polls leases: the release takes up to half a second.
pub const ANION_RELEASE_LEASES: u32 = 1;
/// The service polls reference counts of dma-bufs: the release takes up to half a second.
pub const ANION_RELEASE_REFERENCE_COUNTS: u32 = 2;
/// The kernel cannot report it: the process is charged until it frees the anion_buffer.
pub const ANION_RELEASE_TOKEN: u32 = 3;

/// Counters of a heap since the service started.
#[repr(C)]
#[derive(Default)]
pub struct anion_heap_stats {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// ION's num_of_buffers: buffers that exist, deferred frees included.
    pub num_of_buffers: u64,
    /// ION's num_of_alloc_bytes: bytes of these buffers, without pooled memory.
    pub num_of_alloc_bytes: u64,
    /// ION's alloc_bytes_wm: the highest value of num_of_alloc_bytes.
    pub alloc_bytes_wm: u64,
    /// Bytes that clients hold.
    pub live_bytes: u64,
    /// Bytes that were released and wait for scrubbing, or for their return to the kernel.
    pub deferred_bytes: u64,
    /// Clean bytes that are pooled.
    pub pooled_bytes: u64,
    /// Bytes of reserved buffers that are not drawn.
    pub reserved_bytes: u64,
    /// Bytes that the heap can give at once; 0 if only the machine's memory limits it.
    pub capacity: u64,
    /// Largest buffer that fits into a free range of memory set aside; 0 if none is set aside.
    pub largest_free_bytes: u64,
    /// Buffers handed out.
    pub allocations: u64,
    /// Buffers released.
    pub frees: u64,
    /// Pool hits: buffers that came from pooled memory.
    pub recycled: u64,
    /// Pool misses: new buffers of a heap with a pool that were large enough for the pool.
    pub pool_misses: u64,
    /// Requests that were refused for lack of memory, room or descriptors.
    pub failures_no_memory: u64,
    /// Those of failures_no_memory that failed for fragmentation alone.
    pub failures_fragmented: u64,
    /// Requests that exceeded the caller's quota.
    pub failures_quota: u64,
    /// Requests of callers that may not use the heap.
    pub failures_not_permitted: u64,
    /// Requests for a kind of buffer that the heap can never give.
    pub failures_unsupported: u64,
    /// Requests that failed for an unexpected error of the kernel.
    pub failures_backend: u64,
    /// Durations of allocations: element 0 counts those below 1 us, element n those of at least
    /// 2^(n-1) us and below 2^n us, the last element all longer ones.
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
    /// Its bit in masks, 0 to 31, and its rank: the service tries higher ids first.
    pub id: u32,
    /// ANION_KIND_ (ION's numbers); newer ones may appear.
    pub kind: u32,
    /// ANION_BACKING_ of the buffers of its first source; newer values may appear.
    pub backing: u32,
    /// ANION_HEAP_ bits.
    pub flags: u32,
    /// ANION_RELEASE_: the release mechanism of its buffers.
    pub release: u32,
    /// Its name.
    pub name: *const c_char,
    /// Its other names, with NULL after the last one.
    pub aliases: *const *const c_char,
    /// The reason why it is unavailable on this machine; NULL if it is available.
    pub unavailable: *const c_char,
    /// Skipped sources of the configuration, with the reasons; empty if there is none.
    pub passed_over: *const c_char,
    /// Bytes that it can give at once; 0 if only the machine's memory limits it.
    pub capacity: u64,
    /// Bytes: the service rounds sizes up to a multiple of it.
    pub granule: u64,
    /// Largest alignment in bytes of a request.
    pub max_alignment: u64,
    /// Its counters; NULL if the service has none for it.
    pub stats: *const anion_heap_stats,
    /// Bytes: rows of images in its buffers should begin at multiples of it, as its devices
    /// require. It is an argument of anion_layout_image(). 0, that function's default, if the
    /// service does not report it.
    pub stride_align: u32,
}

/// All configured heaps, also unavailable ones, in the order in which the service tries them.
#[repr(C)]
#[derive(Default)]
pub struct anion_heaps {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// The number of heaps.
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

/// Converts a number of the interface, which has no unsigned ones; 0 for a negative number.
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
        stride_align: u32::try_from(heap.strideAlign).unwrap_or(0),
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
