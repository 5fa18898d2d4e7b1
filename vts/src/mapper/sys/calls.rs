// SPDX-License-Identifier: Apache-2.0
//! Calls the functions of the mapper. Every buffer is identified only by its address. The mapper
//! must refuse an address that was never imported without reading it.

use super::abi::{BufferHandle, Description, MetadataType, NativeHandle, Rect};
use super::library::Mapper;
use super::native::Native;
use super::pixels::Pixels;
use std::ffi::{CStr, CString, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::slice;

/// A value that the mapper dumps: the name and number of its type, and its bytes.
pub(super) type Value = (String, i64, Vec<u8>);

/// A type that the mapper lists.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) has_description: bool,
    pub(crate) is_gettable: bool,
    pub(crate) is_settable: bool,
    pub(crate) reserved: [u8; 32],
}

fn checked<T>(code: i32, value: T) -> Result<T, i32> {
    if code == 0 { Ok(value) } else { Err(code) }
}

fn at(address: usize) -> BufferHandle {
    std::ptr::with_exposed_provenance(address)
}

fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: texts of a mapper are NUL-terminated and live as long as the mapper, or for the
    // callback that receives them.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

impl Mapper {
    fn import_from(self, handle: BufferHandle) -> Result<usize, i32> {
        let mut out: *const NativeHandle = null();
        // SAFETY: the handle is null or a complete one that lives during the call (callers), and
        // the result is written to this stack.
        let code = unsafe { (self.table.v5.import_buffer)(handle, &raw mut out) };
        checked(code, out.expose_provenance())
    }

    /// Imports a handle; returns the address of the imported one.
    pub(crate) fn import(self, handle: &Native) -> Result<usize, i32> {
        self.import_from(handle.as_ptr())
    }

    /// Imports null.
    pub(crate) fn import_nothing(self) -> Result<usize, i32> {
        self.import_from(null())
    }

    /// Imports a handle that is already imported. No thread frees it during the call.
    pub(crate) fn import_again(self, buffer: usize) -> Result<usize, i32> {
        self.import_from(at(buffer))
    }

    /// Reads an imported handle: its descriptors and numbers. No thread frees it during the call.
    pub(crate) fn contents(self, buffer: usize) -> (Vec<i32>, Vec<i32>) {
        let head = at(buffer);
        // SAFETY: an imported handle is a complete `native_handle_t` until it is freed.
        let NativeHandle { num_fds, num_ints, .. } = unsafe { head.read() };
        let counts = [num_fds, num_ints].map(|count| usize::try_from(count).unwrap_or_default());
        let words = head.wrapping_add(1).cast::<i32>();
        // SAFETY: the counted words follow the struct, and no code changes them.
        let words = unsafe { slice::from_raw_parts(words, counts[0] + counts[1]) };
        (words[..counts[0]].to_vec(), words[counts[0]..].to_vec())
    }

    pub(crate) fn free(self, buffer: usize) -> i32 {
        // SAFETY: the mapper refuses an unknown buffer by its address.
        unsafe { (self.table.v5.free_buffer)(at(buffer)) }
    }

    /// Returns the numbers of descriptors and of numbers to transport.
    pub(crate) fn transport_size(self, buffer: usize) -> Result<(u32, u32), i32> {
        let (mut fds, mut ints) = (0, 0);
        // SAFETY: as in `free`; the results are written to this stack.
        let code = unsafe { (self.table.v5.get_transport_size)(at(buffer), &raw mut fds, &raw mut ints) };
        checked(code, (fds, ints))
    }

    /// Locks the buffer. Returns the image, of which `bytes` bytes may be accessed.
    pub(crate) fn lock(
        self,
        buffer: usize,
        usage: i64,
        region: Rect,
        fence: Option<OwnedFd>,
        bytes: usize,
    ) -> Result<Pixels, i32> {
        let fence = fence.map_or(-1, IntoRawFd::into_raw_fd);
        let mut out = null_mut();
        let lock = self.table.v5.lock;
        // SAFETY: as in `free`; ownership of the fence is transferred; the result is written to
        // this stack.
        let code = unsafe { lock(at(buffer), usage.cast_unsigned(), region, fence, &raw mut out) };
        checked(code, Pixels::new(out.cast(), bytes))
    }

    /// Unlocks the buffer. Returns the fence.
    pub(crate) fn unlock(self, buffer: usize) -> Result<i32, i32> {
        let mut fence = -2;
        // SAFETY: as in `free`; the result is written to this stack.
        let code = unsafe { (self.table.v5.unlock)(at(buffer), &raw mut fence) };
        checked(code, fence)
    }

    pub(crate) fn flush(self, buffer: usize) -> i32 {
        // SAFETY: as in `free`.
        unsafe { (self.table.v5.flush)(at(buffer)) }
    }

    pub(crate) fn reread(self, buffer: usize) -> i32 {
        // SAFETY: as in `free`.
        unsafe { (self.table.v5.reread)(at(buffer)) }
    }

    /// Reads metadata by the number of a standard type.
    pub(crate) fn get_standard(self, buffer: usize, number: i64, into: &mut [u8]) -> i32 {
        let place = if into.is_empty() { null_mut() } else { into.as_mut_ptr().cast() };
        // SAFETY: as in `free`; at most the slice's bytes are written to it.
        unsafe { (self.table.v5.get_standard)(at(buffer), number, place, into.len()) }
    }

    /// Reads metadata by the name and number of a type.
    pub(crate) fn get(self, buffer: usize, name: &str, number: i64, into: &mut [u8]) -> i32 {
        let name = CString::new(name).unwrap_or_default();
        let place = if into.is_empty() { null_mut() } else { into.as_mut_ptr().cast() };
        let metadata_type = MetadataType { name: name.as_ptr(), value: number };
        // SAFETY: as in `get_standard`; the name lives during the call.
        unsafe { (self.table.v5.get)(at(buffer), metadata_type, place, into.len()) }
    }

    pub(crate) fn set_standard(self, buffer: usize, number: i64, value: &[u8]) -> i32 {
        let from = if value.is_empty() { null() } else { value.as_ptr().cast::<c_void>() };
        // SAFETY: as in `free`; no more than the slice's bytes are read.
        unsafe { (self.table.v5.set_standard)(at(buffer), number, from, value.len()) }
    }

    pub(crate) fn set(self, buffer: usize, name: &str, number: i64, value: &[u8]) -> i32 {
        let name = CString::new(name).unwrap_or_default();
        let metadata_type = MetadataType { name: name.as_ptr(), value: number };
        // SAFETY: as in `set_standard`; the name lives during the call.
        unsafe { (self.table.v5.set)(at(buffer), metadata_type, value.as_ptr().cast(), value.len()) }
    }

    /// Returns the supported types.
    pub(crate) fn list(self) -> Result<Vec<Described>, i32> {
        let (mut list, mut count): (*const Description, usize) = (null(), 0);
        // SAFETY: the results are written to this stack.
        let code = unsafe { (self.table.v5.list)(&raw mut list, &raw mut count) };
        if code != 0 || count == 0 {
            return checked(code, Vec::new());
        }
        // SAFETY: the mapper has this number of entries there, which never change.
        let list = unsafe { slice::from_raw_parts(list, count) };
        let described = |entry: &Description| Described {
            name: text(entry.metadata_type.name),
            number: entry.metadata_type.value,
            has_description: !entry.description.is_null(),
            is_gettable: entry.is_gettable,
            is_settable: entry.is_settable,
            reserved: entry.reserved,
        };
        Ok(list.iter().map(described).collect())
    }

    /// Returns the mapper's dump of a buffer.
    pub(crate) fn dump(self, buffer: usize) -> Result<Vec<Value>, i32> {
        let mut found: Vec<Vec<Value>> = vec![Vec::new()];
        let context = (&raw mut found).cast();
        // SAFETY: as in `free`; the callback receives the context that it expects.
        let code = unsafe { (self.table.v5.dump)(at(buffer), on_value, context) };
        checked(code, found.pop().unwrap_or_default())
    }

    /// Returns the mapper's dump of all buffers.
    pub(crate) fn dump_all(self) -> Result<Vec<Vec<Value>>, i32> {
        let mut found: Vec<Vec<Value>> = Vec::new();
        let context = (&raw mut found).cast();
        // SAFETY: the callbacks receive the context that they expect.
        let code = unsafe { (self.table.v5.dump_all)(on_buffer, on_value, context) };
        checked(code, found)
    }

    /// Returns the region that is reserved for clients.
    pub(crate) fn reserved(self, buffer: usize) -> Result<(Pixels, u64), i32> {
        let (mut start, mut bytes) = (null_mut(), 0);
        // SAFETY: as in `free`; the results are written to this stack.
        let code = unsafe { (self.table.v5.get_reserved_region)(at(buffer), &raw mut start, &raw mut bytes) };
        let length = usize::try_from(bytes).unwrap_or_default();
        checked(code, (Pixels::new(start.cast(), length), bytes))
    }
}

unsafe extern "C" fn on_buffer(context: *mut c_void) {
    // SAFETY: the context is that of `dump_all`, which no other code uses during the call.
    let found = unsafe { &mut *context.cast::<Vec<Vec<Value>>>() };
    found.push(Vec::new());
}

unsafe extern "C" fn on_value(
    context: *mut c_void,
    metadata_type: MetadataType,
    value: *const c_void,
    bytes: usize,
) {
    // SAFETY: the context is that of `dump` or `dump_all`, which no other code uses during the
    // call.
    let found = unsafe { &mut *context.cast::<Vec<Vec<Value>>>() };
    // SAFETY: the mapper has this number of bytes there during the call.
    let value = unsafe { slice::from_raw_parts(value.cast::<u8>(), bytes) };
    if let Some(last) = found.last_mut() {
        last.push((text(metadata_type.name), metadata_type.value, value.to_vec()));
    }
}
