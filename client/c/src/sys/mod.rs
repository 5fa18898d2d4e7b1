// SPDX-License-Identifier: Apache-2.0
//! The boundary to C: accesses a caller's memory. Only this folder of the crate has `unsafe`
//! blocks.
//!
//! It defines the types of arguments. Each is a pointer of the caller, and no Rust code creates one
//! that is not NULL: their fields are private to this module, so a value has come through an
//! exported function, whose contract (`include/anion.h`) states what it points to.

pub mod compat;

use crate::buffer::anion_buffer;
use crate::connection::anion_settings;
use crate::error::Failure;
use crate::record::Record;
use crate::request::anion_request;
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::marker::PhantomData;
#[cfg(test)]
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// A text of the caller, or NULL: NUL-terminated, and unchanged during the call.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Text<'a>(*const c_char, PhantomData<&'a CStr>);

/// Texts of the caller, the last one followed by NULL, or NULL.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Texts<'a>(*const *const c_char, PhantomData<&'a CStr>);

/// A request of the caller, or NULL: it begins with its size in bytes, and all of them are
/// readable.
#[repr(transparent)]
pub struct RequestIn<'a>(*const anion_request<'a>, PhantomData<&'a anion_request<'a>>);

/// Settings of the caller, or NULL: as for requests.
#[repr(transparent)]
pub struct SettingsIn<'a>(*const anion_settings<'a>, PhantomData<&'a anion_settings<'a>>);

/// Memory of the caller for as many buffers as the count of the request, or NULL.
#[repr(transparent)]
pub struct Buffers<'a>(*mut *mut anion_buffer, PhantomData<&'a mut anion_buffer>);

impl<'a> Text<'a> {
    /// Returns the text; `None` for NULL.
    ///
    /// # Errors
    /// If the argument `name` is not UTF-8.
    pub(crate) fn get(self, name: &str) -> Result<Option<&'a str>, Failure> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: values come from C alone (module), where a text is NUL-terminated, lives for the
        // whole call and is not changed during it; 'a ends with the call, since no exported
        // function takes or keeps it longer.
        let text = unsafe { CStr::from_ptr(self.0) };
        let text = text.to_str().map_err(|_| Failure::Argument(format!("{name} is not UTF-8: {text:?}")));
        text.map(Some)
    }
}

impl<'a> Texts<'a> {
    /// Returns the texts up to the NULL; none for NULL.
    ///
    /// # Errors
    /// If one of the argument `name` is not UTF-8.
    pub(crate) fn get(self, name: &str) -> Result<Vec<&'a str>, Failure> {
        let mut texts = Vec::new();
        let mut next = self.0;
        while !next.is_null() {
            // SAFETY: values come from C alone (module), where the array has a NULL after its last
            // text. `next` starts at its first element and advances only after an element that is
            // not NULL, so it is an element.
            let text = Text(unsafe { next.read() }, PhantomData);
            let Some(text) = text.get(name)? else { break };
            texts.push(text);
            next = next.wrapping_add(1);
        }
        Ok(texts)
    }
}

impl<'a> RequestIn<'a> {
    /// Returns a copy, with defaults for fields that the caller's version of the header lacks.
    ///
    /// # Errors
    /// If it is NULL or violates the header.
    pub(crate) fn read(&self) -> Result<anion_request<'a>, Failure> {
        // SAFETY: values come from C alone (module), where all bytes that the leading size counts
        // are readable; every field is a number or a pointer that may be NULL.
        unsafe { read_sized(self.0, "request") }
    }
}

impl<'a> SettingsIn<'a> {
    /// Returns a copy as for requests; the defaults for NULL.
    ///
    /// # Errors
    /// If they violate the header.
    pub(crate) fn read(&self) -> Result<anion_settings<'a>, Failure> {
        if self.0.is_null() {
            return Ok(anion_settings::default());
        }
        // SAFETY: as for requests.
        unsafe { read_sized(self.0, "settings") }
    }
}

/// Copies a structure that begins with its size in the caller's version of the header.
///
/// # Errors
/// If it is NULL, its size is less than that field's, or it is larger than `T` and has a byte that
/// is not 0 beyond the size of `T`.
///
/// # Safety
/// `from` is NULL or points to a `usize`, at its alignment, that counts readable bytes from there
/// on. Any bytes are a valid `T`.
unsafe fn read_sized<T: Default>(from: *const T, name: &str) -> Result<T, Failure> {
    let refuse = |why: String| Err(Failure::Argument(format!("{name}{why}")));
    if from.is_null() {
        return refuse(" is NULL".to_owned());
    }
    // SAFETY: it points to an aligned usize (contract).
    let size = unsafe { from.cast::<usize>().read() };
    if size < size_of::<usize>() {
        return refuse(format!("->struct_size is {size}, but it must be the sizeof of the structure"));
    }
    let (bytes, known) = (from.cast::<u8>(), size.min(size_of::<T>()));
    for offset in known..size {
        // SAFETY: `offset` is below `size`, and that many bytes are readable (contract).
        if unsafe { bytes.wrapping_add(offset).read() } != 0 {
            return refuse(format!(
                "->struct_size is {size}, and byte {offset} is set, but this version of libanion knows \
                 {} bytes: it is older than the header",
                size_of::<T>()
            ));
        }
    }
    let mut copy = T::default();
    // SAFETY: `known` bytes are readable (contract: no more than `size`) and fit into `copy`; the
    // caller's structure cannot overlap a local variable. The result is a T: any bytes are
    // (contract).
    unsafe { ptr::copy_nonoverlapping(bytes, ptr::from_mut(&mut copy).cast(), known) };
    Ok(copy)
}

impl Buffers<'_> {
    /// Returns whether it is NULL.
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Stores the buffers in sequence. Their number must be the count of the request, and the
    /// pointer must not be NULL.
    pub(crate) fn store(self, buffers: Vec<anion_buffer>) {
        assert!(!self.0.is_null());
        for (index, buffer) in buffers.into_iter().enumerate() {
            let place = self.0.wrapping_add(index);
            // SAFETY: values come from C alone (module), and point to memory for the request's
            // count of pointers; `index` is below that (above). A pointer is written, over memory
            // that may be uninitialised and has nothing to drop.
            unsafe { place.write(Box::into_raw(Box::new(buffer))) };
        }
    }
}

/// Duplicates the caller's descriptor for the library.
///
/// # Errors
/// `EBADF` if it is no open descriptor; `EMFILE` if no descriptor is free.
pub(crate) fn duplicate(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC accepts any number, touches no memory, and fails for one that is no
    // open descriptor.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created it for this call, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Frees a result and the data of its pointers. `head` must be NULL or come from
/// [`Record::into_c`], which the header requires of callers, and is not used afterwards.
pub(crate) fn free_record<T>(head: *mut T) {
    if !head.is_null() {
        // SAFETY: only exported functions call this, each with a pointer of its own type T that the
        // caller got from the library, which creates these only with `Record::into_c`: from a
        // Box<Record<T>>, whose head is its first field (repr(C)). The caller frees it once and
        // does not use it afterwards (header).
        drop(unsafe { Box::from_raw(head.cast::<Record<T>>()) });
    }
}

/// Returns the object that a function stored for its caller.
#[cfg(test)]
pub(crate) fn given_out<T>(place: MaybeUninit<*mut T>) -> Box<T> {
    assert!(!is_null(place));
    // SAFETY: `place` is initialised, which `is_null` needs, too.
    let object = unsafe { place.assume_init() };
    // SAFETY: it is not NULL, so `make` or `attempt` got it from Box::into_raw; tests pass it to no
    // other code.
    unsafe { Box::from_raw(object) }
}

/// Returns whether a function stored NULL.
#[cfg(test)]
pub(crate) fn is_null<T>(place: MaybeUninit<*mut T>) -> bool {
    // SAFETY: tests first pass the place to an exported function or `attempt`, which write it.
    unsafe { place.assume_init() }.is_null()
}

#[cfg(test)]
mod tests;
