// SPDX-License-Identifier: Apache-2.0
//! The types of version 5 of `AIMapper`, written for this suite from the header, and independent of
//! the mapper's own.

use std::ffi::{c_char, c_int, c_void};

/// `native_handle_t`, whose descriptors and numbers follow.
#[repr(C)]
pub(super) struct NativeHandle {
    pub(super) version: c_int,
    pub(super) num_fds: c_int,
    pub(super) num_ints: c_int,
}

pub(super) type BufferHandle = *const NativeHandle;

/// `ARect`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Rect {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
}

/// `AIMapper_MetadataType`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MetadataType {
    pub(super) name: *const c_char,
    pub(super) value: i64,
}

/// `AIMapper_MetadataTypeDescription`.
#[repr(C)]
pub(super) struct Description {
    pub(super) metadata_type: MetadataType,
    pub(super) description: *const c_char,
    pub(super) is_gettable: bool,
    pub(super) is_settable: bool,
    pub(super) reserved: [u8; 32],
}

pub(super) type OnValue = unsafe extern "C" fn(*mut c_void, MetadataType, *const c_void, usize);
pub(super) type OnBuffer = unsafe extern "C" fn(*mut c_void);

/// `AIMapperV5`: its functions, in their order.
#[repr(C)]
pub(super) struct V5 {
    pub(super) import_buffer: unsafe extern "C" fn(BufferHandle, *mut BufferHandle) -> i32,
    pub(super) free_buffer: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) get_transport_size: unsafe extern "C" fn(BufferHandle, *mut u32, *mut u32) -> i32,
    pub(super) lock: unsafe extern "C" fn(BufferHandle, u64, Rect, c_int, *mut *mut c_void) -> i32,
    pub(super) unlock: unsafe extern "C" fn(BufferHandle, *mut c_int) -> i32,
    pub(super) flush: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) reread: unsafe extern "C" fn(BufferHandle) -> i32,
    pub(super) get: unsafe extern "C" fn(BufferHandle, MetadataType, *mut c_void, usize) -> i32,
    pub(super) get_standard: unsafe extern "C" fn(BufferHandle, i64, *mut c_void, usize) -> i32,
    pub(super) set: unsafe extern "C" fn(BufferHandle, MetadataType, *const c_void, usize) -> i32,
    pub(super) set_standard: unsafe extern "C" fn(BufferHandle, i64, *const c_void, usize) -> i32,
    pub(super) list: unsafe extern "C" fn(*mut *const Description, *mut usize) -> i32,
    pub(super) dump: unsafe extern "C" fn(BufferHandle, OnValue, *mut c_void) -> i32,
    pub(super) dump_all: unsafe extern "C" fn(OnBuffer, OnValue, *mut c_void) -> i32,
    pub(super) get_reserved_region: unsafe extern "C" fn(BufferHandle, *mut *mut c_void, *mut u64) -> i32,
}

/// Functions of [`V5`].
pub(super) const FUNCTIONS: usize = 15;

/// `AIMapper`.
#[repr(C, align(8))]
pub(super) struct Table {
    pub(super) version: u32,
    pub(super) v5: V5,
}

const _: () = assert!(size_of::<V5>() == FUNCTIONS * size_of::<usize>());
