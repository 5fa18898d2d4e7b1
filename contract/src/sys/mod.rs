// SPDX-License-Identifier: Apache-2.0
//! Raw system calls, so that tests can pass invalid arguments.

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect, munmap};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Bytes that any request of the table may read or write.
pub(crate) const ARGUMENT: usize = 64;

/// Makes a request with an argument of its own, and returns its result.
///
/// # Errors
/// The kernel's error.
///
/// # Panics
/// If the size in the request's number exceeds [`ARGUMENT`].
pub(crate) fn ioctl(
    fd: impl AsFd,
    request: libc::Ioctl,
    argument: &mut [u8; ARGUMENT],
) -> Result<i32, Errno> {
    assert!(usize::try_from((request >> 16) & 0x3fff).is_ok_and(|bytes| bytes <= ARGUMENT), "{request:#x}");
    // SAFETY: the kernel reads and writes at most as many bytes as the request's number states,
    // which the argument has (checked above); names, for which the number states fewer, end within
    // the argument or after 32 bytes. It is borrowed for the call, and so is the descriptor.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument.as_mut_ptr()) };
    Errno::result(result)
}

/// Makes a request whose argument is at an unmapped address.
///
/// # Errors
/// The kernel's error: one is required.
pub(crate) fn ioctl_nowhere(fd: impl AsFd, request: libc::Ioctl) -> Result<i32, Errno> {
    // SAFETY: no process has anything mapped at address 1, so the kernel refuses to read or write
    // there.
    let result =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::without_provenance::<u8>(1)) };
    Errno::result(result)
}

/// Calls ION's ION_IOC_HEAP_QUERY into `heaps`. Returns the number of heaps that the device has.
///
/// # Errors
/// The kernel's error.
pub(crate) fn query_heaps(fd: impl AsFd, heaps: &mut [[u8; HEAP_ENTRY]]) -> Result<u32, Errno> {
    const REQUEST: libc::Ioctl = 0xc018_4908_u32 as libc::Ioctl;
    #[repr(C)]
    struct Query {
        count: u32,
        reserved0: u32,
        heaps: u64,
        reserved1: u32,
        reserved2: u32,
    }
    let count = u32::try_from(heaps.len()).map_err(|_| Errno::EINVAL)?;
    let address = if heaps.is_empty() { 0 } else { heaps.as_mut_ptr().expose_provenance() };
    let mut query = Query { count, reserved0: 0, heaps: address as u64, reserved1: 0, reserved2: 0 };
    // SAFETY: the request's argument is a `Query`; the kernel writes at most `count` entries of
    // `HEAP_ENTRY` bytes to the address in it, where as many are borrowed for the call; 0 requests
    // only the number.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), REQUEST, &raw mut query) };
    Errno::result(result)?;
    Ok(query.count)
}

/// Bytes of ION's description of one heap: a name of 32 bytes, its type, its id, and unused ones.
pub(crate) const HEAP_ENTRY: usize = 52;

/// Maps and unmaps.
///
/// # Errors
/// The kernel's error.
pub(crate) fn map(
    fd: impl AsFd,
    bytes: usize,
    offset: libc::off_t,
    protection: ProtFlags,
    flags: MapFlags,
) -> Result<i64, Errno> {
    let bytes = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
    // SAFETY: the kernel chooses the address (the table never has MAP_FIXED), so no mapping can be
    // replaced.
    let base = unsafe { mmap(None, bytes, protection, flags, fd, offset) }?;
    // SAFETY: exactly the mapping made above, into which no pointer exists.
    unsafe { munmap(base, bytes.get()) }?;
    Ok(0)
}

/// Returns a buffer of the kernel for this argument.
///
/// # Errors
/// The kernel's error.
///
/// # Panics
/// Never: the argument has room for both.
pub(crate) fn ioctl_for_descriptor(
    fd: impl AsFd,
    request: Allocate,
    argument: &mut [u8; ARGUMENT],
) -> Result<OwnedFd, Errno> {
    let (number, place) = match request {
        Allocate::Ion => (0xc018_4900_u32 as libc::Ioctl, 16),
        Allocate::DmaHeap => (0xc018_4800_u32 as libc::Ioctl, 8),
    };
    ioctl(fd, number, argument)?;
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&argument[place..place + 4]);
    // SAFETY: after success these requests have installed a new descriptor for this call and left
    // its number there.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(bytes)) })
}

/// Requests that return a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Allocate {
    /// ION_IOC_ALLOC.
    Ion,
    /// DMA_HEAP_IOCTL_ALLOC.
    DmaHeap,
}

/// Maps with one protection, requests another, and unmaps.
///
/// # Errors
/// The kernel's error of the first or the second step.
pub(crate) fn map_and_protect(
    fd: impl AsFd,
    bytes: usize,
    first: ProtFlags,
    then: ProtFlags,
) -> Result<i64, Errno> {
    let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
    // SAFETY: the kernel chooses the address, so no mapping can be replaced.
    let base = unsafe { mmap(None, length, first, MapFlags::MAP_SHARED, fd, 0) }?;
    // SAFETY: exactly the mapping made above, into which no pointer exists.
    let protected = unsafe { mprotect(base, bytes, then) };
    // SAFETY: exactly the mapping made above, into which no pointer exists.
    unsafe { munmap(base, bytes) }?;
    protected.map(|()| 0)
}

/// Some pages of a file: `struct udmabuf_create_item`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) memfd: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Calls UDMABUF_CREATE_LIST, with a close-on-exec descriptor as the result.
///
/// # Errors
/// The kernel's error.
pub(crate) fn create_udmabuf(device: impl AsFd, ranges: &[Range]) -> Result<OwnedFd, Errno> {
    const REQUEST: libc::Ioctl = 0x4008_7543;
    const CLOEXEC: u32 = 1;
    let count = u32::try_from(ranges.len()).map_err(|_| Errno::EINVAL)?;
    let mut list: Vec<u8> = [CLOEXEC, count].into_iter().flat_map(u32::to_ne_bytes).collect();
    for range in ranges {
        list.extend([range.memfd, 0].into_iter().flat_map(u32::to_ne_bytes));
        list.extend([range.offset, range.bytes].into_iter().flat_map(u64::to_ne_bytes));
    }
    // SAFETY: the kernel reads a header of 8 bytes and the counted number of items of 24 bytes, all
    // of which are in `list`, and writes nothing there.
    let fd = Errno::result(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), REQUEST, list.as_ptr()) })?;
    // SAFETY: success returns a new descriptor that no other code knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
