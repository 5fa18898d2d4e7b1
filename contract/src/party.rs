// SPDX-License-Identifier: Apache-2.0
//! The parties that answer: a heap of the kernel's ION, a dma-heap, or a heap of Anion.

use crate::allocation::{Heap, Request, Size};
use crate::buffers::{Buffer, Kind};
use crate::sys::{ARGUMENT, Allocate, HEAP_ENTRY, ioctl_for_descriptor, query_heaps};
use anion_ipc::{Connection, Endpoint, SERVICE_NAME, ServiceError, Status, connect};
use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::{SysconfVar, sysconf};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    Access::Access, AllocationRequest::AllocationRequest, Backing::Backing, ErrorCode::ErrorCode,
    HeapFlags::HeapFlags, HeapInfo::HeapInfo, IHeapAllocator::IHeapAllocator,
};

const ION: &str = "/dev/ion";
const DMA_HEAPS: &str = "/dev/dma_heap";
/// Pages of the buffers under test.
const PAGES: usize = 16;
/// `CPU mappings are cached`, the only flag of ION.
const ION_FLAG_CACHED: u32 = 1;

/// The reason why a party gives no buffer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The kernel's error.
    Errno(Errno),
    /// The service's error.
    Code(ErrorCode),
    /// The service did not answer.
    Transport(Status),
    /// The service answered with no buffer.
    NoDescriptor,
}

/// Writes errors with the names of errno.h and `ErrorCode`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "{errno:?}"),
            Self::Code(ErrorCode::BAD_REQUEST) => f.write_str("BAD_REQUEST"),
            Self::Code(ErrorCode::UNKNOWN_HEAP) => f.write_str("UNKNOWN_HEAP"),
            Self::Code(ErrorCode::NOT_PERMITTED) => f.write_str("NOT_PERMITTED"),
            Self::Code(ErrorCode::UNSUPPORTED) => f.write_str("UNSUPPORTED"),
            Self::Code(ErrorCode::NO_MEMORY) => f.write_str("NO_MEMORY"),
            Self::Code(ErrorCode(code)) => write!(f, "code {code}"),
            Self::Transport(status) => write!(f, "transport: {status}"),
            Self::NoDescriptor => f.write_str("a reply without a descriptor"),
        }
    }
}

/// A heap under test, and the way to call it.
pub(crate) enum Party {
    Ion { device: Arc<File>, heap: String, id: u32, kind: Kind },
    DmaHeap { heap: String, kind: Kind },
    Anion { service: Arc<Connection<dyn IHeapAllocator>>, heap: HeapInfo },
}

/// Returns every heap on this machine. Allocates from heaps of nodes that Anion serves, to
/// determine the kind of their buffers.
///
/// # Errors
/// If a device or a service fails a call that the tests need.
pub(crate) fn all(endpoint: Option<&Endpoint>, is_served: bool) -> Result<Vec<Party>> {
    let mut parties = ion()?;
    parties.extend(dma_heaps()?);
    for party in parties.iter_mut().filter(|_| is_served) {
        let buffer = party.allocate(&Request::least());
        let buffer = buffer.map_err(|refusal| anyhow!("{} returned no buffer: {refusal}", party.name()))?;
        // Memfds have seals, dma-bufs have none.
        if let (Ok(_), Party::Ion { kind, .. } | Party::DmaHeap { kind, .. }) =
            (fcntl(&buffer, FcntlArg::F_GET_SEALS), party)
        {
            *kind = Kind::Memfd;
        }
    }
    if let Some(endpoint) = endpoint {
        parties.extend(anion(endpoint)?);
    }
    Ok(parties)
}

fn ion() -> Result<Vec<Party>> {
    let device = match File::open(ION) {
        Ok(device) => Arc::new(device),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(ION),
    };
    let count = query_heaps(&device, &mut []).context("cannot query the number of ION's heaps")?;
    let mut heaps = vec![[0; HEAP_ENTRY]; usize::try_from(count)?];
    query_heaps(&device, &mut heaps).context("cannot query ION's heaps")?;
    let party = |entry: &[u8; HEAP_ENTRY]| {
        let name = entry[..32].split(|byte| *byte == 0).next().unwrap_or_default();
        let mut id = [0; 4];
        id.copy_from_slice(&entry[36..40]);
        let heap = String::from_utf8_lossy(name).into_owned();
        Party::Ion { device: Arc::clone(&device), heap, id: u32::from_ne_bytes(id), kind: Kind::DmaBuf }
    };
    Ok(heaps.iter().map(party).collect())
}

fn dma_heaps() -> Result<Vec<Party>> {
    let entries = match fs::read_dir(DMA_HEAPS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(DMA_HEAPS),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.into_iter().map(|heap| Party::DmaHeap { heap, kind: Kind::DmaBuf }).collect())
}

/// Returns the heaps of the service that this uid may use and the CPU may map.
fn anion(endpoint: &Endpoint) -> Result<Vec<Party>> {
    let service = connect::<dyn IHeapAllocator>(endpoint, SERVICE_NAME, 1).context("connecting")?;
    let service = Arc::new(service);
    let mut parties = Vec::new();
    for heap in service.service.listHeaps().context("listHeaps")? {
        let party = Party::Anion { service: Arc::clone(&service), heap };
        let Party::Anion { heap, .. } = &party else { continue };
        if !heap.available || heap.flags & HeapFlags::SECURE.0 != 0 {
            continue;
        }
        match party.allocate(&Request::least()) {
            Err(Refusal::Code(ErrorCode::NOT_PERMITTED)) => {}
            _ => parties.push(party),
        }
    }
    Ok(parties)
}

/// Returns the page size.
pub(crate) fn page() -> usize {
    sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(4096)
}

impl Party {
    /// Returns its name in the names of tests.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ion { heap, .. } => format!("ion/{heap}"),
            Self::DmaHeap { heap, .. } => format!("dma-heap/{heap}"),
            Self::Anion { heap, .. } => format!("anion/{}", heap.name),
        }
    }

    /// Returns the kind of its buffers' descriptors.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Ion { kind, .. } | Self::DmaHeap { kind, .. } => *kind,
            Self::Anion { heap, .. } => match heap.backing {
                Backing::MEMFD | Backing::HUGETLB => Kind::Memfd,
                Backing::ASHMEM => Kind::Ashmem,
                _ => Kind::DmaBuf,
            },
        }
    }

    /// Returns the bytes of the smallest buffer.
    pub(crate) fn least(&self) -> u64 {
        match self {
            Self::Ion { .. } | Self::DmaHeap { .. } => page() as u64,
            Self::Anion { heap, .. } => heap.granule.unsigned_abs(),
        }
    }

    /// Returns whether it gives read-only buffers. ION gives only writable ones.
    pub(crate) fn gives_read_only(&self) -> bool {
        match self {
            Self::Ion { .. } => false,
            Self::DmaHeap { .. } => true,
            Self::Anion { heap, .. } => heap.flags & HeapFlags::READ_ONLY.0 != 0,
        }
    }

    /// Allocates a buffer for the tests.
    ///
    /// # Errors
    /// The refusal of the party.
    pub(crate) fn buffer(&self, read_only: bool) -> Result<Buffer, Refusal> {
        let least = usize::try_from(self.least()).map_err(|_| Refusal::Errno(Errno::EOVERFLOW))?;
        let bytes = (PAGES * page()).max(least);
        let request = Request { size: Size::Bytes(bytes as u64), read_only, ..Request::least() };
        Ok(Buffer { fd: self.allocate(&request)?, bytes, page: page() })
    }

    /// Allocates a buffer.
    ///
    /// # Errors
    /// The refusal of the party.
    pub(crate) fn allocate(&self, request: &Request) -> Result<OwnedFd, Refusal> {
        match self {
            Self::Ion { device, id, .. } => ask_ion(device, *id, request).map_err(Refusal::Errno),
            Self::DmaHeap { heap, .. } => ask_dma_heap(heap, request).map_err(Refusal::Errno),
            Self::Anion { service, heap } => ask_anion(service, heap, request),
        }
    }
}

/// Returns the bytes of a buffer, from its descriptor.
///
/// # Errors
/// The kernel's error.
pub(crate) fn size_of(fd: impl AsFd) -> Result<u64, Errno> {
    u64::try_from(fstat(fd)?.st_size).map_err(|_| Errno::EOVERFLOW)
}

fn put(argument: &mut [u8; ARGUMENT], place: usize, bytes: &[u8]) {
    argument[place..place + bytes.len()].copy_from_slice(bytes);
}

/// Allocates from ION, with `struct ion_new_allocation_data`.
fn ask_ion(device: &File, id: u32, request: &Request) -> Result<OwnedFd, Errno> {
    if request.read_only {
        return Err(Errno::ENOSYS);
    }
    let mask: u32 = match request.heap {
        Heap::This => 1 << id,
        Heap::Absent => 1 << 30,
        Heap::Unnamed => 0,
        Heap::Any => u32::MAX,
    };
    let bytes = match request.size {
        Size::Bytes(bytes) => bytes,
        // A size above the last page would be rounded up beyond the range, which is another error.
        Size::TooMuch => u64::MAX - 2 * page() as u64 + 1,
    };
    let flags = if request.unknown_flags { u32::MAX } else { ION_FLAG_CACHED };
    let mut argument = [0; ARGUMENT];
    put(&mut argument, 0, &bytes.to_ne_bytes());
    put(&mut argument, 8, &mask.to_ne_bytes());
    put(&mut argument, 12, &flags.to_ne_bytes());
    ioctl_for_descriptor(device, Allocate::Ion, &mut argument)
}

/// Allocates from a dma-heap, with `struct dma_heap_allocation_data`.
fn ask_dma_heap(heap: &str, request: &Request) -> Result<OwnedFd, Errno> {
    let Size::Bytes(bytes) = request.size else { return Err(Errno::ENOSYS) };
    let name = match request.heap {
        Heap::This => heap,
        Heap::Absent => "absent",
        Heap::Unnamed | Heap::Any => return Err(Errno::ENOSYS),
    };
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    let device = File::open(Path::new(DMA_HEAPS).join(name)).map_err(errno)?;
    let access = if request.read_only { libc::O_RDONLY } else { libc::O_RDWR };
    let fd_flags = (access | libc::O_CLOEXEC).cast_unsigned();
    let heap_flags = u64::from(request.unknown_flags);
    let mut argument = [0; ARGUMENT];
    put(&mut argument, 0, &bytes.to_ne_bytes());
    put(&mut argument, 12, &fd_flags.to_ne_bytes());
    put(&mut argument, 16, &heap_flags.to_ne_bytes());
    ioctl_for_descriptor(device, Allocate::DmaHeap, &mut argument)
}

fn ask_anion(
    service: &Connection<dyn IHeapAllocator>,
    heap: &HeapInfo,
    request: &Request,
) -> Result<OwnedFd, Refusal> {
    let names = match request.heap {
        Heap::This => vec![heap.name.clone()],
        Heap::Absent => vec!["no-such-heap".to_owned()],
        Heap::Unnamed | Heap::Any => Vec::new(),
    };
    let request = AllocationRequest {
        size: match request.size {
            Size::Bytes(bytes) => bytes.cast_signed(),
            Size::TooMuch => i64::MAX - i64::try_from(2 * page()).unwrap_or(i64::MAX),
        },
        heapIdMask: if request.heap == Heap::Any { -1 } else { 0 },
        heapNames: names,
        access: if request.read_only { Access::READ_ONLY } else { Access::READ_WRITE },
        flags: if request.unknown_flags { 1 << 30 } else { 0 },
        name: "contract".to_owned(),
        ..Default::default()
    };
    match service.service.allocate(&request) {
        Ok(mut allocation) => {
            let fd = allocation.buffers.pop().and_then(|buffer| buffer.fd);
            fd.map(OwnedFd::from).ok_or(Refusal::NoDescriptor)
        }
        Err(status) => Err(match ServiceError::of(&status) {
            Some(error) => Refusal::Code(ErrorCode(error.code)),
            None => Refusal::Transport(status),
        }),
    }
}
