// SPDX-License-Identifier: Apache-2.0
//! Buffers.

use crate::connection::{anion_client, client_of};
use crate::error::{Failure, anion_error, attempt, make};
use crate::heaps::number;
use crate::record::Record;
use crate::sys::{self, Buffers, RequestIn};
use ::anion_client::{Backing, Buffer};
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::ptr;

use crate::heaps::{
    ANION_BACKING_ASHMEM, ANION_BACKING_DMA_HEAP, ANION_BACKING_HUGETLB, ANION_BACKING_ION,
    ANION_BACKING_MEMFD, ANION_BACKING_UDMABUF,
};

/// A buffer that this process holds.
pub struct anion_buffer {
    pub(crate) buffer: Buffer,
    heap: CString,
}

/// Allocates buffers, and stores as many pointers in `buffers` as the request's count: all of them,
/// or none. They are zero, unless the request permits otherwise or the heap is secure. They are
/// charged to the caller's uid until every descriptor, copy and mapping of them is gone, in any
/// process.
///
/// Fails with the service's refusal, with the verdict of every heap in its text; -EINVAL for flags
/// or access that this version does not know. `buffers` is not written then.
#[unsafe(no_mangle)]
pub extern "C" fn anion_allocate(
    client: Option<&anion_client>,
    request: RequestIn<'_>,
    buffers: Buffers<'_>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || {
        let client = client_of(client)?;
        if buffers.is_null() {
            return Err(Failure::Argument("buffers is NULL".to_owned()));
        }
        let held = client.allocate(&request.read()?.to_rust()?)?;
        let held = held.into_iter().map(|buffer| {
            let heap = CString::new(buffer.heap()).unwrap_or_default();
            anion_buffer { buffer, heap }
        });
        buffers.store(held.collect());
        Ok(0)
    })
}

/// Returns the buffer's close-on-exec descriptor, which still belongs to the buffer: dup(2) it, or
/// pass it on, before the buffer is freed. -EINVAL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_fd(buffer: Option<&anion_buffer>) -> c_int {
    buffer.map_or(-libc::EINVAL, |buffer| buffer.buffer.as_fd().as_raw_fd())
}

/// Returns the id, which is unique until the machine reboots.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_id(buffer: Option<&anion_buffer>) -> u64 {
    buffer.map_or(0, |buffer| buffer.buffer.id().0)
}

/// Returns its usable bytes: the requested size, rounded up to the heap's granule.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_bytes(buffer: Option<&anion_buffer>) -> u64 {
    buffer.map_or(0, |buffer| buffer.buffer.bytes())
}

/// Returns the name of the heap that the buffer came from.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_heap(buffer: Option<&anion_buffer>) -> *const c_char {
    buffer.map_or(ptr::null(), |buffer| buffer.heap.as_ptr())
}

/// Returns the id of that heap.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_heap_id(buffer: Option<&anion_buffer>) -> u32 {
    buffer.map_or(0, |buffer| buffer.buffer.heap_id())
}

/// Returns the kind of its descriptor, ANION_BACKING_; UINT32_MAX if it is newer than this library.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_backing(buffer: Option<&anion_buffer>) -> u32 {
    match buffer.and_then(|buffer| buffer.buffer.backing()) {
        Some(Backing::Memfd) => ANION_BACKING_MEMFD,
        Some(Backing::Ashmem) => ANION_BACKING_ASHMEM,
        Some(Backing::Udmabuf) => ANION_BACKING_UDMABUF,
        Some(Backing::DmaHeap) => ANION_BACKING_DMA_HEAP,
        Some(Backing::Ion) => ANION_BACKING_ION,
        Some(Backing::Hugetlb) => ANION_BACKING_HUGETLB,
        None => u32::MAX,
    }
}

/// Frees the object and returns its descriptor, which the caller closes. A buffer of a heap with
/// ANION_RELEASE_TOKEN is released: its memory stays usable, and is charged to no uid. -EINVAL for
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_into_fd(buffer: Option<Box<anion_buffer>>) -> c_int {
    attempt(None, || Ok(buffer.map_or(-libc::EINVAL, |buffer| buffer.buffer.into_fd().into_raw_fd())))
}

/// Closes the buffer's descriptor. Copies of it and mappings keep the memory.
#[unsafe(no_mangle)]
pub extern "C" fn anion_buffer_free(buffer: Option<Box<anion_buffer>>) {
    attempt(None, || {
        drop(buffer);
        Ok(0)
    });
}

/// Description of a live buffer.
#[repr(C)]
#[derive(Default)]
pub struct anion_description {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// Its id.
    pub id: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The id of its heap.
    pub heap_id: u32,
    /// ANION_BACKING_: the kind of its descriptor; newer ones may appear.
    pub backing: u32,
    /// The name of its heap.
    pub heap: *const c_char,
    /// The label of its request.
    pub label: *const c_char,
    /// The uid of the process that allocated it.
    pub owner_uid: u32,
    /// The pid of that process.
    pub owner_pid: i32,
    /// The inode that /proc and other tools show for it.
    pub inode: u64,
    /// Milliseconds since the allocation.
    pub age_ms: u64,
}

/// Identifies a buffer by one of its descriptors, whichever process allocated it. `fd` still
/// belongs to the caller.
///
/// Fails with -ENOENT if it is no live buffer of this service, and with -EBADF if it is not open.
#[unsafe(no_mangle)]
pub extern "C" fn anion_describe(
    client: Option<&anion_client>,
    fd: c_int,
    description: Option<&mut MaybeUninit<*mut anion_description>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(description, "description", error, || {
        let client = client_of(client)?;
        let copy = sys::duplicate(fd).map_err(Failure::system(format!("fd is {fd}")))?;
        let found = client.describe(copy)?;
        let mut record = Record::<anion_description>::default();
        record.head = anion_description {
            struct_size: size_of::<anion_description>(),
            id: found.id.cast_unsigned(),
            bytes: number(found.size),
            heap_id: found.heapId.cast_unsigned(),
            backing: found.backing.0.cast_unsigned(),
            heap: record.text(&found.heapName),
            label: record.text(&found.name),
            owner_uid: found.ownerUid.cast_unsigned(),
            owner_pid: found.ownerPid,
            inode: found.inode.cast_unsigned(),
            age_ms: number(found.ageMs),
        };
        Ok(record.into_c())
    })
}

/// Frees a description.
#[unsafe(no_mangle)]
pub extern "C" fn anion_description_free(description: *mut anion_description) {
    sys::free_record(description);
}
