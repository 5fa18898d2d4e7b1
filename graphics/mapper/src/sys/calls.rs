// SPDX-License-Identifier: Apache-2.0
//! Implements the functions of the interface, in its order.

use super::abi::{BufferHandle, Mapper, MapperV5, MetadataType, MetadataTypeDescription, OnBuffer, OnValue};
use super::describe;
use super::native::Native;
use crate::access::Rect;
use crate::encode::encode;
use crate::error::Error;
use crate::registry;
use crate::set::set;
use crate::standard::Standard;
use anion_handle::{FDS, INTS};
use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// More bytes than any value with its header.
const LONGEST: usize = 1 << 16;

static MAPPER: Mapper = Mapper {
    version: 5,
    v5: MapperV5 {
        import_buffer,
        free_buffer,
        get_transport_size,
        lock,
        unlock,
        flush_locked_buffer: synchronise,
        reread_locked_buffer: synchronise,
        get_metadata,
        get_standard_metadata,
        set_metadata,
        set_standard_metadata,
        list_supported_metadata_types,
        dump_buffer,
        dump_all_buffers,
        get_reserved_region,
    },
};

/// Returns the functions of the interface. The pointer is always the same.
///
/// # Safety
/// `out` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn AIMapper_loadIMapper(out: *mut *const Mapper) -> i32 {
    // SAFETY: as this function's contract.
    code(|| unsafe { put(out, &raw const MAPPER) })
}

/// Runs a call, and returns its code: 0 on success.
fn code(call: impl FnOnce() -> Result<(), Error>) -> i32 {
    guarded(call).map_or_else(|error| error as i32, |()| 0)
}

/// Runs a call and catches panics. State is used again after a panic: every lock that may be
/// poisoned guards data that is consistent after each statement.
fn guarded<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Error::NoResources))
}

/// Writes a result.
///
/// # Safety
/// `out` is null or writable.
unsafe fn put<T>(out: *mut T, value: T) -> Result<(), Error> {
    if out.is_null() {
        return Err(Error::BadValue);
    }
    // SAFETY: it is not null, so that it is writable (contract).
    unsafe { out.write(value) };
    Ok(())
}

unsafe extern "C" fn import_buffer(handle: BufferHandle, out: *mut BufferHandle) -> i32 {
    code(|| {
        if out.is_null() {
            return Err(Error::BadValue);
        }
        // SAFETY: the caller's handle is null or complete (module).
        let buffer = unsafe { Native::import(handle) }?;
        // SAFETY: the caller's pointer for the result is writable (module).
        unsafe { put(out, Native::head(registry::insert(buffer))) }
    })
}

unsafe extern "C" fn free_buffer(buffer: BufferHandle) -> i32 {
    code(|| registry::remove(buffer.addr()).map(drop))
}

unsafe extern "C" fn get_transport_size(buffer: BufferHandle, fds: *mut u32, ints: *mut u32) -> i32 {
    code(|| {
        registry::find(buffer.addr())?;
        let count = |count: usize| u32::try_from(count).map_err(|_| Error::NoResources);
        // SAFETY: the caller's pointers for the results are writable (module).
        unsafe { put(fds, count(FDS)?) }?;
        // SAFETY: as above.
        unsafe { put(ints, count(INTS)?) }
    })
}

unsafe extern "C" fn lock(
    buffer: BufferHandle,
    usage: u64,
    region: Rect,
    fence: c_int,
    out: *mut *mut c_void,
) -> i32 {
    code(|| {
        // SAFETY: the caller transfers ownership of the fence with the call; a negative number is
        // no fence.
        let fence = (fence >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fence) });
        let imported = registry::find(buffer.addr())?;
        if out.is_null() {
            return Err(Error::BadValue);
        }
        let start = imported.buffer.lock(usage, region, fence)?;
        // SAFETY: the caller's pointer for the result is writable (module).
        unsafe { put(out, start.as_ptr().cast()) }
    })
}

unsafe extern "C" fn unlock(buffer: BufferHandle, fence: *mut c_int) -> i32 {
    code(|| {
        let imported = registry::find(buffer.addr())?;
        if fence.is_null() {
            return Err(Error::BadValue);
        }
        imported.buffer.unlock()?;
        // SAFETY: the caller's pointer for the result is writable (module).
        unsafe { put(fence, -1) }
    })
}

/// Synchronises both directions at once, with one call of the kernel.
unsafe extern "C" fn synchronise(buffer: BufferHandle) -> i32 {
    code(|| registry::find(buffer.addr())?.buffer.synchronise())
}

unsafe extern "C" fn get_metadata(
    buffer: BufferHandle,
    metadata_type: MetadataType,
    into: *mut c_void,
    bytes: usize,
) -> i32 {
    get(buffer, into, bytes, || describe::number_of(metadata_type))
}

unsafe extern "C" fn get_standard_metadata(
    buffer: BufferHandle,
    number: i64,
    into: *mut c_void,
    bytes: usize,
) -> i32 {
    get(buffer, into, bytes, || Ok(number))
}

/// Writes the value of a type if it fits. Returns its length in bytes, or a negative code.
fn get(
    buffer: BufferHandle,
    into: *mut c_void,
    bytes: usize,
    number: impl FnOnce() -> Result<i64, Error>,
) -> i32 {
    let length = guarded(|| {
        let imported = registry::find(buffer.addr())?;
        let standard = Standard::from_number(number()?).ok_or(Error::Unsupported)?;
        let value = encode(&imported.buffer, standard)?;
        if !into.is_null() && value.len() <= bytes {
            // SAFETY: the caller has passed `bytes` writable bytes there (module), and the value is
            // not longer; it is in memory of its own.
            unsafe { into.cast::<u8>().copy_from_nonoverlapping(value.as_ptr(), value.len()) };
        }
        i32::try_from(value.len()).map_err(|_| Error::NoResources)
    });
    length.unwrap_or_else(|error| -(error as i32))
}

unsafe extern "C" fn set_metadata(
    buffer: BufferHandle,
    metadata_type: MetadataType,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    change(buffer, from, bytes, || describe::number_of(metadata_type))
}

unsafe extern "C" fn set_standard_metadata(
    buffer: BufferHandle,
    number: i64,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    change(buffer, from, bytes, || Ok(number))
}

fn change(
    buffer: BufferHandle,
    from: *const c_void,
    bytes: usize,
    number: impl FnOnce() -> Result<i64, Error>,
) -> i32 {
    code(|| {
        let imported = registry::find(buffer.addr())?;
        let standard = Standard::from_number(number()?).ok_or(Error::Unsupported)?;
        if from.is_null() && bytes > 0 {
            return Err(Error::BadValue);
        }
        let value = match bytes {
            0 => &[],
            LONGEST.. => return Err(Error::Unsupported),
            // SAFETY: the caller has passed `bytes` bytes there (module), which are not changed
            // during the call; it is not null, and the length is valid for a slice (checked).
            _ => unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) },
        };
        set(&imported.buffer, standard, value)
    })
}

unsafe extern "C" fn list_supported_metadata_types(
    list: *mut *const MetadataTypeDescription,
    count: *mut usize,
) -> i32 {
    code(|| {
        // SAFETY: the caller's pointers for the results are writable (module).
        unsafe { put(list, describe::LIST.as_ptr()) }?;
        // SAFETY: as above.
        unsafe { put(count, describe::LIST.len()) }
    })
}

unsafe extern "C" fn dump_buffer(
    buffer: BufferHandle,
    on_value: Option<OnValue>,
    context: *mut c_void,
) -> i32 {
    code(|| {
        let imported = registry::find(buffer.addr())?;
        describe::dump(&imported.buffer, on_value.ok_or(Error::BadValue)?, context)
    })
}

unsafe extern "C" fn dump_all_buffers(
    on_buffer: Option<OnBuffer>,
    on_value: Option<OnValue>,
    context: *mut c_void,
) -> i32 {
    code(|| {
        let (on_buffer, on_value) = on_buffer.zip(on_value).ok_or(Error::BadValue)?;
        for imported in registry::all() {
            // SAFETY: the caller's function accepts the caller's context (module).
            unsafe { on_buffer(context) };
            describe::dump(&imported.buffer, on_value, context)?;
        }
        Ok(())
    })
}

unsafe extern "C" fn get_reserved_region(
    buffer: BufferHandle,
    out: *mut *mut c_void,
    bytes: *mut u64,
) -> i32 {
    code(|| {
        let imported = registry::find(buffer.addr())?;
        let start = imported.buffer.page.reserved().map_or(null_mut(), |start| start.as_ptr().cast());
        // SAFETY: the caller's pointers for the results are writable (module).
        unsafe { put(out, start) }?;
        // SAFETY: as above.
        unsafe { put(bytes, imported.buffer.handle.request().reserved_size) }
    })
}
