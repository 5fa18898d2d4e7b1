// SPDX-License-Identifier: Apache-2.0
//! Buffers and heaps, as the service describes them.

use super::error::Error;
use super::mapping::Mapping;
use super::process::OfProcess;
use anion_ipc::Strong;
use anion_layout::STRIDE_ALIGN;
use anion_memory::{Access, Backing, BufferId, HeapType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vendor_anion_allocator::aidl::vendor::anion::allocator::Backing::Backing as AidlBacking;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Buffer::Buffer as AidlBuffer;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapFlags::HeapFlags;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapInfo::HeapInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapType::HeapType as AidlHeapType;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IBufferToken::IBufferToken;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReleaseMechanism::ReleaseMechanism;

/// A buffer that this process holds. Dropping it closes only the descriptor: copies and mappings
/// keep the memory. If the kernel cannot report the buffer's release ([`Heap::is_held_by_token`]),
/// dropping it releases the buffer, even if another process still has it.
#[derive(Debug)]
pub struct Buffer {
    /// Shared with the client that allocated it ([`super::held`]).
    fd: Arc<OwnedFd>,
    id: BufferId,
    bytes: u64,
    heap: String,
    heap_id: u32,
    backing: Option<Backing>,
    _claim: Option<Claim>,
}

/// The token that makes this process the owner of a buffer whose release the kernel cannot report.
struct Claim {
    token: OfProcess<Strong<dyn IBufferToken>>,
    id: i64,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(token) = self.token.get() {
            // The service refuses this for buffers of the allocation that need no token; a service
            // that has ended has no claims.
            let _ = token.release(&[self.id]);
        }
    }
}

impl Buffer {
    /// Returns the id, which is unique until the machine reboots.
    pub fn id(&self) -> BufferId {
        self.id
    }

    /// Returns the usable bytes: the requested size, rounded up to the heap's allocation
    /// granularity.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the name of the heap that the buffer came from.
    pub fn heap(&self) -> &str {
        &self.heap
    }

    /// Returns the id of that heap.
    pub fn heap_id(&self) -> u32 {
        self.heap_id
    }

    /// Returns the kind of descriptor; `None` if it is newer than this library.
    pub fn backing(&self) -> Option<Backing> {
        self.backing
    }

    /// Maps the whole buffer, with its pages present.
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub fn map(&self, access: Access) -> io::Result<Mapping> {
        let bytes = usize::try_from(self.bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Mapping::new(self.fd.as_ref(), bytes, access)
    }

    /// Returns the descriptor, to pass it on. Releases a buffer with a token: its memory stays
    /// usable, and no uid is charged.
    pub fn into_fd(self) -> OwnedFd {
        let mut fd = self.fd;
        loop {
            match Arc::try_unwrap(fd) {
                Ok(fd) => return fd,
                // Another thread presents it to a new service: it copies the descriptor, then
                // releases it.
                Err(shared) => fd = shared,
            }
            std::thread::yield_now();
        }
    }

    /// Returns the descriptor without keeping it open, for a client that presents it to a new
    /// service; `None` if no service can count the buffer again.
    pub(super) fn presentable(&self) -> Option<Weak<OwnedFd>> {
        let is_file = matches!(self.backing, Some(Backing::Memfd | Backing::Hugetlb));
        is_file.then(|| Arc::downgrade(&self.fd))
    }

    /// Makes the buffers of the service's reply to a request of `asked` bytes, with the token of
    /// the whole reply.
    pub(super) fn accept(
        buffer: AidlBuffer,
        token: Option<&Strong<dyn IBufferToken>>,
        asked: u64,
    ) -> Result<Self, Error> {
        let id = buffer.id;
        let fd: OwnedFd =
            buffer.fd.ok_or_else(|| Error::Contract(format!("buffer {id} has no descriptor")))?.into();
        let bytes = u64::try_from(buffer.size).ok().filter(|bytes| *bytes >= asked).ok_or_else(|| {
            Error::Contract(format!("buffer {id} has {} bytes, but the request has {asked}", buffer.size))
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            id: BufferId(u64::from_ne_bytes(id.to_ne_bytes())),
            bytes,
            heap: buffer.heapName,
            heap_id: u32::from_ne_bytes(buffer.heapId.to_ne_bytes()),
            backing: backing(buffer.backing),
            _claim: token.map(|token| Claim { token: OfProcess::new(token.clone()), id }),
        })
    }
}

impl AsFd for Buffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Buffer> for OwnedFd {
    fn from(buffer: Buffer) -> Self {
        buffer.into_fd()
    }
}

/// A configured heap of the service.
#[derive(Debug, Clone)]
pub struct Heap {
    /// Its bit in masks, and its priority: the service tries higher ids first.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// Its kind; `None` if it is newer than this library.
    pub kind: Option<HeapType>,
    /// The kind of its buffers; for a list of sources, that of the first source. `None` if it is
    /// newer than this library.
    pub backing: Option<Backing>,
    /// The reason why it is unavailable on this machine; `None` if it is available.
    pub unavailable: Option<String>,
    /// Most bytes that it can serve at once; `None` if only the machine's memory limits it.
    pub capacity: Option<u64>,
    /// Allocation granularity in bytes: the service rounds sizes up to a multiple of it.
    pub granule: u64,
    /// Largest alignment of a request, in bytes.
    pub max_alignment: u64,
    /// Alignment in bytes that its devices require of rows of images in its buffers: for
    /// [`Image::stride_align`](anion_layout::Image::stride_align). [`STRIDE_ALIGN`] for a service
    /// of interface version 1, which does not report it.
    pub stride_align: u32,
    /// Whether the CPU maps its buffers cached.
    pub is_cached: bool,
    /// Whether its buffers are zero when the service returns them.
    pub is_zeroed: bool,
    /// Whether the CPU can never map its buffers.
    pub is_secure: bool,
    /// Whether it supports read-only buffers.
    pub gives_read_only: bool,
    /// Whether the kernel cannot report the release of its buffers: then the process that allocated
    /// one is charged as long as it keeps the [`Buffer`].
    pub is_held_by_token: bool,
}

impl Heap {
    /// Returns whether `name` is its name or one of its aliases.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Returns all of its names, its aliases first.
    pub fn into_names(self) -> impl Iterator<Item = String> {
        self.aliases.into_iter().chain([self.name])
    }
}

impl From<HeapInfo> for Heap {
    fn from(heap: HeapInfo) -> Self {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let has = |flag: HeapFlags| heap.flags & flag.0 != 0;
        Self {
            id: u32::from_ne_bytes(heap.id.to_ne_bytes()),
            kind: kind(heap.r#type),
            backing: backing(heap.backing),
            unavailable: (!heap.available).then_some(heap.unavailableReason),
            capacity: Some(number(heap.capacity)).filter(|bytes| *bytes > 0),
            granule: number(heap.granule),
            max_alignment: number(heap.maxAlignment),
            stride_align: stride_align(heap.strideAlign),
            is_cached: has(HeapFlags::CACHED),
            is_zeroed: has(HeapFlags::ZEROED),
            is_secure: has(HeapFlags::SECURE),
            gives_read_only: has(HeapFlags::READ_ONLY),
            is_held_by_token: heap.releaseMechanism == ReleaseMechanism::TOKEN,
            name: heap.name,
            aliases: heap.aliases,
        }
    }
}

/// Returns the alignment that the service reports, or [`STRIDE_ALIGN`] if it reports none.
fn stride_align(told: i32) -> u32 {
    u32::try_from(told).ok().filter(|bytes| *bytes > 0).unwrap_or(STRIDE_ALIGN)
}

fn backing(backing: AidlBacking) -> Option<Backing> {
    Some(match backing {
        AidlBacking::MEMFD => Backing::Memfd,
        AidlBacking::ASHMEM => Backing::Ashmem,
        AidlBacking::UDMABUF => Backing::Udmabuf,
        AidlBacking::DMA_HEAP => Backing::DmaHeap,
        AidlBacking::ION => Backing::Ion,
        AidlBacking::HUGETLB => Backing::Hugetlb,
        _ => return None,
    })
}

fn kind(kind: AidlHeapType) -> Option<HeapType> {
    Some(match kind {
        AidlHeapType::SYSTEM => HeapType::System,
        AidlHeapType::SYSTEM_CONTIG => HeapType::SystemContig,
        AidlHeapType::CARVEOUT => HeapType::Carveout,
        AidlHeapType::CHUNK => HeapType::Chunk,
        AidlHeapType::DMA => HeapType::Dma,
        AidlHeapType::CUSTOM => HeapType::Custom,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anion_ipc::ParcelFileDescriptor;

    #[test]
    fn rows_are_aligned_as_the_service_tells_and_as_usual_where_it_does_not() {
        let of = |told| Heap::from(HeapInfo { strideAlign: told, ..Default::default() }).stride_align;
        assert_eq!([0, -1, 1, 512].map(of), [STRIDE_ALIGN, STRIDE_ALIGN, 1, 512]);
    }

    #[test]
    fn every_value_of_the_interface_is_known_and_newer_ones_are_none() {
        assert!(AidlBacking::enum_values().map(backing).iter().all(Option::is_some));
        assert!(AidlHeapType::enum_values().map(kind).iter().all(Option::is_some));
        assert_eq!((backing(AidlBacking(99)), kind(AidlHeapType(-1))), (None, None));
    }

    #[test]
    fn a_buffer_that_is_too_small_or_has_no_descriptor_breaks_the_contract() {
        let none = Buffer::accept(AidlBuffer { size: 4096, ..Default::default() }, None, 4096)
            .expect_err("no descriptor");
        assert!(none.to_string().contains("has no descriptor"), "{none}");
        let fd = || Some(ParcelFileDescriptor::new(std::fs::File::open("/dev/null").expect("open")));
        let small = AidlBuffer { size: 4095, fd: fd(), ..Default::default() };
        let small = Buffer::accept(small, None, 4096).expect_err("too small");
        assert!(small.to_string().contains("has 4095 bytes, but the request has 4096"), "{small}");
        assert!(Buffer::accept(AidlBuffer { size: -1, fd: fd(), ..Default::default() }, None, 1).is_err());
    }
}
