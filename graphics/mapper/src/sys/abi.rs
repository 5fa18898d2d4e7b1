// SPDX-License-Identifier: Apache-2.0
//! The C types of the interface.

use super::native::NativeHandle;
use crate::access::Rect;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

/// `AIMapper_MetadataType`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct MetadataType {
    pub(super) name: *const c_char,
    pub(super) value: i64,
}

/// `AIMapper_MetadataTypeDescription`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct MetadataTypeDescription {
    pub(super) metadata_type: MetadataType,
    pub(super) description: *const c_char,
    pub(super) is_gettable: bool,
    pub(super) is_settable: bool,
    pub(super) reserved: [u8; 32],
}

// SAFETY: its pointers are null or refer to constants of this library, so any thread may read it.
unsafe impl Sync for MetadataTypeDescription {}

/// `AIMapper_DumpBufferCallback`: receives a value of one type.
pub(super) type OnValue = unsafe extern "C" fn(*mut c_void, MetadataType, *const c_void, usize);
/// `AIMapper_BeginDumpBufferCallback`: begins the values of another buffer.
pub(super) type OnBuffer = unsafe extern "C" fn(*mut c_void);

/// A handle of a buffer. It may be an invalid address.
pub(super) type BufferHandle = *const NativeHandle;

/// `AIMapperV5`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct MapperV5 {
    pub(super) import_buffer: unsafe extern "C" fn(BufferHandle, *mut BufferHandle) -> i32,
    pub(super) free_buffer: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) get_transport_size: unsafe extern "C" fn(BufferHandle, *mut u32, *mut u32) -> i32,
    pub(super) lock: unsafe extern "C" fn(BufferHandle, u64, Rect, c_int, *mut *mut c_void) -> i32,
    pub(super) unlock: unsafe extern "C" fn(BufferHandle, *mut c_int) -> i32,
    pub(super) flush_locked_buffer: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) reread_locked_buffer: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) get_metadata: unsafe extern "C" fn(BufferHandle, MetadataType, *mut c_void, usize) -> i32,
    pub(super) get_standard_metadata: unsafe extern "C" fn(BufferHandle, i64, *mut c_void, usize) -> i32,
    pub(super) set_metadata: unsafe extern "C" fn(BufferHandle, MetadataType, *const c_void, usize) -> i32,
    pub(super) set_standard_metadata: unsafe extern "C" fn(BufferHandle, i64, *const c_void, usize) -> i32,
    pub(super) list_supported_metadata_types:
        unsafe extern "C" fn(*mut *const MetadataTypeDescription, *mut usize) -> i32,
    pub(super) dump_buffer: unsafe extern "C" fn(BufferHandle, Option<OnValue>, *mut c_void) -> i32,
    pub(super) dump_all_buffers: unsafe extern "C" fn(Option<OnBuffer>, Option<OnValue>, *mut c_void) -> i32,
    pub(super) get_reserved_region: unsafe extern "C" fn(BufferHandle, *mut *mut c_void, *mut u64) -> i32,
}

/// `AIMapper`. Its alignment is that of `max_align_t` on the architecture with the largest one. The
/// size is the same with any smaller alignment.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Mapper {
    pub(super) version: u32,
    pub(super) v5: MapperV5,
}

/// The name of all supported types of metadata, for C.
pub(super) const STANDARD: &CStr = c"android.hardware.graphics.common.StandardMetadataType";

const WORD: usize = size_of::<usize>();
const _: () = assert!(size_of::<Mapper>() == if WORD == 8 { 128 } else { 64 });
const _: () = assert!(offset_of!(Mapper, v5) == WORD);
const _: () = assert!(size_of::<MapperV5>() == 15 * WORD);
const _: () = assert!(size_of::<Rect>() == 16);
// On 32-bit x86, 64-bit numbers are aligned to 32 bits.
const METADATA_TYPE: usize = if cfg!(target_arch = "x86") { 12 } else { 16 };
const _: () = assert!(size_of::<MetadataType>() == METADATA_TYPE);
const DESCRIPTION: usize = match (WORD, METADATA_TYPE) {
    (8, _) => 64,
    (_, 16) => 56,
    _ => 52,
};
const _: () = assert!(size_of::<MetadataTypeDescription>() == DESCRIPTION);
