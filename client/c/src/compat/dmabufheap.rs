// SPDX-License-Identifier: Apache-2.0
//! The C functions of libdmabufheap. On failure, all of them return a negative errno.

use super::client;
use crate::error::{Failure, attempt, given};
use crate::mapping::cpu_access;
use crate::sys::Text;
use crate::sys::compat::{Names, borrow};
use ::anion_client::{Heap, HeapNames, Phase};
use anion_memory::dma_buf::{set_name, sync};
use std::ffi::{CString, c_int, c_uint, c_void};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

/// The object that programs hold instead of an open device.
#[derive(Default)]
pub struct BufferAllocator {
    names: RwLock<HeapNames>,
}

/// A function that synchronises a buffer of the legacy ION. It is never called.
type LegacySync = Option<extern "C" fn(c_int, c_int, *mut c_void) -> c_int>;

/// Creates an allocator; never NULL. The first call that needs the service connects to it.
#[unsafe(no_mangle)]
pub extern "C" fn CreateDmabufHeapBufferAllocator() -> Box<BufferAllocator> {
    Box::default()
}

/// Frees it. NULL does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn FreeDmabufHeapBufferAllocator(allocator: Option<Box<BufferAllocator>>) {
    drop(allocator);
}

/// Returns a descriptor of a new buffer of a heap. The alignment applied only to ION, and is
/// ignored.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapAlloc(
    allocator: Option<&BufferAllocator>,
    heap_name: Text<'_>,
    len: usize,
    heap_flags: c_uint,
    _legacy_align: usize,
) -> c_int {
    attempt(None, || {
        let name = given(heap_name.get("heap_name")?, "heap_name")?;
        allocate(allocator, &[name], len, heap_flags)
    })
}

/// Returns a descriptor of a new buffer of ordinary memory.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapAllocSystem(
    allocator: Option<&BufferAllocator>,
    cpu_access: bool,
    len: usize,
    heap_flags: c_uint,
    _legacy_align: usize,
) -> c_int {
    attempt(None, || allocate(allocator, HeapNames::of_system(cpu_access), len, heap_flags))
}

/// Makes the heap with ION's name the alternative if no heap has the name `heap_name`. An empty
/// name adds no alternative.
#[unsafe(no_mangle)]
pub extern "C" fn MapDmabufHeapNameToIonHeap(
    allocator: Option<&BufferAllocator>,
    heap_name: Text<'_>,
    ion_heap_name: Text<'_>,
    _ion_heap_flags: c_uint,
    _legacy_ion_heap_mask: c_uint,
    _legacy_ion_heap_flags: c_uint,
) -> c_int {
    attempt(None, || {
        let names = &given(allocator, "allocator")?.names;
        let name = given(heap_name.get("heap_name")?, "heap_name")?;
        let ion_name = ion_heap_name.get("ion_heap_name")?.unwrap_or_default();
        if !ion_name.is_empty() {
            names.write().unwrap_or_else(PoisonError::into_inner).map(name, ion_name);
        }
        Ok(0)
    })
}

/// Begins an access of the CPU to a mapping of the buffer.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapCpuSyncStart(
    allocator: Option<&BufferAllocator>,
    dmabuf_fd: c_uint,
    sync_type: c_uint,
    _legacy_ion_cpu_sync: LegacySync,
    _data: *mut c_void,
) -> c_int {
    synchronise(allocator, dmabuf_fd, sync_type, Phase::Start)
}

/// Ends an access of the CPU to a mapping of the buffer.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapCpuSyncEnd(
    allocator: Option<&BufferAllocator>,
    dmabuf_fd: c_uint,
    sync_type: c_uint,
    _legacy_ion_cpu_sync: LegacySync,
    _data: *mut c_void,
) -> c_int {
    synchronise(allocator, dmabuf_fd, sync_type, Phase::End)
}

/// Returns whether the machine has ION's device: programs select an interface with this function.
#[unsafe(no_mangle)]
pub extern "C" fn CheckIonSupport() -> bool {
    Path::new("/dev/ion").exists()
}

/// Does the same as `DmabufHeapAlloc`.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapAlloc2(
    allocator: Option<&BufferAllocator>,
    heap_name: Text<'_>,
    len: usize,
    heap_flags: c_uint,
) -> c_int {
    DmabufHeapAlloc(allocator, heap_name, len, heap_flags, 0)
}

/// Does the same as `DmabufHeapAllocSystem`.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapAllocSystem2(
    allocator: Option<&BufferAllocator>,
    cpu_access: bool,
    len: usize,
    heap_flags: c_uint,
) -> c_int {
    DmabufHeapAllocSystem(allocator, cpu_access, len, heap_flags, 0)
}

/// Does the same as `DmabufHeapCpuSyncStart`.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapCpuSyncStart2(
    allocator: Option<&BufferAllocator>,
    dmabuf_fd: c_uint,
    sync_type: c_uint,
) -> c_int {
    synchronise(allocator, dmabuf_fd, sync_type, Phase::Start)
}

/// Does the same as `DmabufHeapCpuSyncEnd`.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufHeapCpuSyncEnd2(
    allocator: Option<&BufferAllocator>,
    dmabuf_fd: c_uint,
    sync_type: c_uint,
) -> c_int {
    synchronise(allocator, dmabuf_fd, sync_type, Phase::End)
}

/// Gives a dma-buf a name of at most 31 bytes, which the kernel shows; -ENOTTY if `fd` is no
/// dma-buf.
#[unsafe(no_mangle)]
pub extern "C" fn DmabufSetName(
    allocator: Option<&BufferAllocator>,
    dmabuf_fd: c_uint,
    name: Text<'_>,
) -> c_int {
    attempt(None, || {
        given(allocator, "allocator")?;
        let name = CString::new(given(name.get("name")?, "name")?).unwrap_or_default();
        let fd = borrow(dmabuf_fd)?;
        set_name(fd, &name).map_err(Failure::system("DMA_BUF_SET_NAME"))?;
        Ok(0)
    })
}

/// Writes the names and aliases of the usable heaps, each with its NUL, up to `len` bytes. Returns
/// the bytes that all of them need. libdmabufheap has no such function; the header uses it for
/// `BufferAllocator::GetDmabufHeapList`.
#[unsafe(no_mangle)]
pub extern "C" fn AnionDmabufHeapNames(names: Names<'_>, len: usize) -> c_int {
    attempt(None, || {
        let heaps = client()?.heaps()?;
        let usable = heaps.into_iter().filter(|heap| heap.unavailable.is_none());
        let mut text = String::new();
        for name in usable.flat_map(Heap::into_names) {
            text.push_str(&name);
            text.push('\0');
        }
        names.store(&text.as_bytes()[..text.len().min(len)]);
        Ok(c_int::try_from(text.len()).unwrap_or(c_int::MAX))
    })
}

fn allocate(
    allocator: Option<&BufferAllocator>,
    heaps: &[&str],
    len: usize,
    flags: c_uint,
) -> Result<c_int, Failure> {
    let allocator = given(allocator, "allocator")?;
    if flags != 0 {
        return Err(Failure::Argument(format!("heap_flags is {flags}, but dma-heaps have none")));
    }
    let request = allocator.names.read().unwrap_or_else(PoisonError::into_inner).request(heaps, len);
    Ok(client()?.allocate_one(&request)?.into_fd().into_raw_fd())
}

fn synchronise(allocator: Option<&BufferAllocator>, fd: c_uint, kind: c_uint, phase: Phase) -> c_int {
    attempt(None, || {
        given(allocator, "allocator")?;
        let access = cpu_access(kind)
            .ok_or_else(|| Failure::Argument(format!("sync_type is {kind}, but it must be 1 to 3")))?;
        sync(borrow(fd)?, access, phase).map_err(Failure::system("DMA_BUF_IOCTL_SYNC"))?;
        Ok(0)
    })
}
