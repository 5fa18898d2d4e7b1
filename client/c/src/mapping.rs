// SPDX-License-Identifier: Apache-2.0
//! Mappings of buffers into the caller's address space.

use crate::buffer::anion_buffer;
use crate::error::{Failure, anion_error, attempt, boxed, given, make};
use crate::request::access_of;
use crate::sys;
use ::anion_client::{CpuAccess, Mapping, Phase};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// The CPU reads.
pub const ANION_CPU_READ: u32 = 1;
/// The CPU writes.
pub const ANION_CPU_WRITE: u32 = 2;
/// The CPU reads and writes.
pub const ANION_CPU_READ_WRITE: u32 = 3;

/// A mapping of a buffer. It keeps the memory, also after the buffer is freed.
pub struct anion_mapping(Mapping);

/// Maps all of a buffer, shared, with its pages present, at an address of the kernel's choice.
///
/// Fails with -EACCES if the buffer does not permit `access`, ANION_READ_WRITE or ANION_READ_ONLY,
/// or its heap is secure, and with -ENOMEM if the address space is full.
#[unsafe(no_mangle)]
pub extern "C" fn anion_map(
    buffer: Option<&anion_buffer>,
    access: u32,
    mapping: Option<&mut MaybeUninit<*mut anion_mapping>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(mapping, "mapping", error, || {
        let buffer = &given(buffer, "buffer")?.buffer;
        let mapped = buffer.map(access_of(access)?);
        let failed = Failure::system(format!("cannot map buffer {}", buffer.id()));
        Ok(boxed(anion_mapping(mapped.map_err(failed)?)))
    })
}

/// Maps the first `bytes` bytes of a buffer that came from another process. `fd` still belongs to
/// the caller.
///
/// Fails as anion_map(); with -EINVAL if `bytes` is 0 or beyond the end, and with -EBADF if `fd` is
/// not open.
#[unsafe(no_mangle)]
pub extern "C" fn anion_map_fd(
    fd: c_int,
    bytes: usize,
    access: u32,
    mapping: Option<&mut MaybeUninit<*mut anion_mapping>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(mapping, "mapping", error, || {
        let access = access_of(access)?;
        let mapped = sys::duplicate(fd).and_then(|fd| Mapping::new(fd, bytes, access));
        let failed = Failure::system(format!("cannot map {bytes} bytes of descriptor {fd}"));
        Ok(boxed(anion_mapping(mapped.map_err(failed)?)))
    })
}

/// Returns the address of the mapping: page-aligned, and valid until it is freed. Read and write
/// between anion_mapping_begin() and anion_mapping_end(), so that dma-bufs are coherent.
#[unsafe(no_mangle)]
pub extern "C" fn anion_mapping_address(mapping: Option<&anion_mapping>) -> *mut c_void {
    mapping.map_or(ptr::null_mut(), |mapping| mapping.0.as_ptr().as_ptr().cast())
}

/// Returns the number of mapped bytes.
#[unsafe(no_mangle)]
pub extern "C" fn anion_mapping_bytes(mapping: Option<&anion_mapping>) -> usize {
    mapping.map_or(0, |mapping| mapping.0.len())
}

/// Begins a CPU access, ANION_CPU_: data that devices wrote becomes visible to the CPU. Accesses
/// may overlap. It costs nothing for memory that no device can access, such as a memfd.
///
/// Fails with -EACCES for writing to a read-only mapping; else with the errors of the buffer's
/// exporter.
#[unsafe(no_mangle)]
pub extern "C" fn anion_mapping_begin(
    mapping: Option<&anion_mapping>,
    access: u32,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || tell(mapping, access, Phase::Start))
}

/// Ends an access that began with the same `access`: data that the CPU wrote becomes visible to
/// devices.
#[unsafe(no_mangle)]
pub extern "C" fn anion_mapping_end(
    mapping: Option<&anion_mapping>,
    access: u32,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || tell(mapping, access, Phase::End))
}

/// Unmaps the memory.
#[unsafe(no_mangle)]
pub extern "C" fn anion_mapping_free(mapping: Option<Box<anion_mapping>>) {
    drop(mapping);
}

fn tell(mapping: Option<&anion_mapping>, access: u32, phase: Phase) -> Result<c_int, Failure> {
    let mapping = given(mapping, "mapping")?;
    let access = cpu_access(access).ok_or_else(|| {
        Failure::Argument(format!(
            "access is {access}, but it must be ANION_CPU_READ (1), ANION_CPU_WRITE (2) or both (3)"
        ))
    })?;
    let word = if phase == Phase::Start { "begin" } else { "end" };
    mapping.0.tell(access, phase).map_err(Failure::system(format!("cannot {word} an access")))?;
    Ok(0)
}

/// Returns the CPU access for a number, also for libdmabufheap; `None` if it is not valid.
pub(crate) fn cpu_access(number: u32) -> Option<CpuAccess> {
    match number {
        ANION_CPU_READ => Some(CpuAccess::Read),
        ANION_CPU_WRITE => Some(CpuAccess::Write),
        ANION_CPU_READ_WRITE => Some(CpuAccess::ReadWrite),
        _ => None,
    }
}
