// SPDX-License-Identifier: Apache-2.0
//! The functions of libion. All of them answer a negative errno on failure.

use super::client;
use super::handles::{self, Handles};
use crate::error::{Failure, attempt, given};
use crate::sys::compat::{self, HeapArray, ion_heap_data, map};
use crate::sys::duplicate;
use ::anion_client::{CpuAccess, Phase, Request};
use anion_memory::dma_buf::sync;
use std::ffi::{c_int, c_uint};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};

/// Mappings are cached: the one flag that all heaps of ION knew.
const ION_FLAG_CACHED: c_uint = 1;

/// Opens what stands for the device, if the service can be reached.
#[unsafe(no_mangle)]
pub extern "C" fn ion_open() -> c_int {
    attempt(None, || {
        client()?;
        Ok(handles::open()?.into_raw_fd())
    })
}

/// Closes it, and frees its handles.
#[unsafe(no_mangle)]
pub extern "C" fn ion_close(fd: c_int) -> c_int {
    attempt(None, || {
        handles::close(fd)?;
        compat::close(fd);
        Ok(0)
    })
}

/// Allocates a buffer and gives a handle of it.
#[unsafe(no_mangle)]
pub extern "C" fn ion_alloc(
    fd: c_int,
    len: usize,
    _align: usize,
    heap_mask: c_uint,
    flags: c_uint,
    handle: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let handle = given(handle, "handle")?;
        // Before the call, which takes longer than it may be locked.
        handles::check(fd)?;
        let buffer = allocate(len, heap_mask, flags)?;
        handle.write(handles::of(fd, |handles| handles.import(buffer))?);
        Ok(0)
    })
}

/// Allocates a buffer and gives its descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn ion_alloc_fd(
    fd: c_int,
    len: usize,
    _align: usize,
    heap_mask: c_uint,
    flags: c_uint,
    handle_fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let handle_fd = given(handle_fd, "handle_fd")?;
        handles::check(fd)?;
        handle_fd.write(allocate(len, heap_mask, flags)?.into_raw_fd());
        Ok(0)
    })
}

/// Makes what the CPU wrote visible to devices, and the reverse.
#[unsafe(no_mangle)]
pub extern "C" fn ion_sync_fd(fd: c_int, handle_fd: c_int) -> c_int {
    attempt(None, || {
        handles::check(fd)?;
        let buffer = duplicate(handle_fd).map_err(Failure::system("handle_fd"))?;
        for phase in [Phase::Start, Phase::End] {
            sync(&buffer, CpuAccess::ReadWrite, phase).map_err(Failure::system("DMA_BUF_IOCTL_SYNC"))?;
        }
        Ok(0)
    })
}

/// Frees a handle. Descriptors and mappings of its buffer stay.
#[unsafe(no_mangle)]
pub extern "C" fn ion_free(fd: c_int, handle: c_int) -> c_int {
    attempt(None, || handles::of(fd, |handles| handles.free(handle)).map(|()| 0))
}

/// Maps the buffer of a handle, and gives a descriptor of it, too.
#[unsafe(no_mangle)]
pub extern "C" fn ion_map(
    fd: c_int,
    handle: c_int,
    length: usize,
    prot: c_int,
    flags: c_int,
    offset: libc::off_t,
    address: Option<&mut MaybeUninit<*mut u8>>,
    map_fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let (address, map_fd) = (given(address, "ptr")?, given(map_fd, "map_fd")?);
        let buffer = handles::of(fd, |handles| handles.share(handle))?;
        address.write(map(&buffer, length, prot, flags, offset).map_err(Failure::system("mmap"))?);
        map_fd.write(buffer.into_raw_fd());
        Ok(0)
    })
}

/// Gives a descriptor of a handle's buffer.
#[unsafe(no_mangle)]
pub extern "C" fn ion_share(fd: c_int, handle: c_int, share_fd: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let share_fd = given(share_fd, "share_fd")?;
        share_fd.write(handles::of(fd, |handles| handles.share(handle))?.into_raw_fd());
        Ok(0)
    })
}

/// Gives a handle for a buffer's descriptor: the one that the buffer has already, if it has one.
#[unsafe(no_mangle)]
pub extern "C" fn ion_import(fd: c_int, share_fd: c_int, handle: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let handle = given(handle, "handle")?;
        let buffer = duplicate(share_fd).map_err(Failure::system("share_fd"))?;
        // ION refused what was no buffer of its own.
        client()?.describe(&buffer).map_err(|_| Failure::Argument("share_fd is no buffer".to_owned()))?;
        handle.write(handles::of(fd, |handles: &mut Handles| handles.import(buffer))?);
        Ok(0)
    })
}

/// Counts the heaps that can be allocated from.
#[unsafe(no_mangle)]
pub extern "C" fn ion_query_heap_cnt(fd: c_int, count: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let count = given(count, "cnt")?;
        handles::check(fd)?;
        count.write(c_int::try_from(heaps()?.len()).unwrap_or(c_int::MAX));
        Ok(0)
    })
}

/// Writes as many of them as there is room for.
#[unsafe(no_mangle)]
pub extern "C" fn ion_query_get_heaps(fd: c_int, count: c_int, buffers: HeapArray<'_>) -> c_int {
    attempt(None, || {
        handles::check(fd)?;
        let room = usize::try_from(count).map_err(|_| Failure::Argument(format!("cnt is {count}")))?;
        let heaps = heaps()?;
        buffers.store(&heaps[..heaps.len().min(room)])?;
        Ok(0)
    })
}

/// Returns 0: descriptors are what programs are to use. Handles are there for those that do not
/// ask.
#[unsafe(no_mangle)]
pub extern "C" fn ion_is_legacy(_fd: c_int) -> c_int {
    0
}

/// Returns 0: heaps have the ids that the service's configuration gives them.
#[unsafe(no_mangle)]
pub extern "C" fn ion_is_using_modular_heaps(_fd: c_int) -> c_int {
    0
}

fn allocate(len: usize, heap_mask: c_uint, flags: c_uint) -> Result<OwnedFd, Failure> {
    if heap_mask == 0 {
        return Err(Failure::system("heap_mask is 0")(io::Error::from_raw_os_error(libc::ENODEV)));
    }
    let request = Request::new(len as u64).heap_mask(heap_mask);
    let request = if flags & ION_FLAG_CACHED != 0 { request.cached() } else { request };
    Ok(client()?.allocate_one(&request)?.into_fd())
}

fn heaps() -> Result<Vec<ion_heap_data>, Failure> {
    let heaps = client()?.heaps()?.into_iter().filter(|heap| heap.unavailable.is_none());
    let data = heaps.map(|heap| {
        // The last byte stays NUL: names have at most 31.
        let mut name = [0; 32];
        for (to, from) in name[..31].iter_mut().zip(heap.name.bytes()) {
            *to = from;
        }
        let kind = heap.kind.map_or(u32::MAX, |kind| u32::from(kind.number()));
        ion_heap_data { name, kind, heap_id: heap.id, reserved: [0; 3] }
    });
    Ok(data.collect())
}
