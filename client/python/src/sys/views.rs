// SPDX-License-Identifier: Apache-2.0
//! The buffer protocol: views of mapped memory without a copy.
//!
//! Python reads and writes the memory by itself, without Rust references. Writes of other processes
//! are visible, as with `mmap`.

use crate::buffer::Buffer;
use crate::mapping::Mapping;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

#[pymethods]
impl Mapping {
    /// Fills `view`, which keeps the mapping until it is released.
    ///
    /// # Safety
    /// `view` must be writable; CPython passes none that is not.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: the caller's pointer is writable (contract). After a failure the object must be
        // NULL.
        unsafe { view.write(ffi::Py_buffer::new()) };
        let memory = slf.get().begin_view()?;
        let (start, bytes) = (memory.start.as_ptr().cast(), memory.bytes.cast_signed());
        // SAFETY: `view` is writable (contract). The range is mapped until `end_view` is called as
        // often as `begin_view` was: in `__releasebuffer__`, which CPython calls for each view that
        // was filled, before it drops the view's reference to `slf`. It is writable unless
        // `is_read_only`, with which the call refuses writable views.
        let status = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, bytes, memory.is_read_only.into(), flags)
        };
        if status == 0 {
            return Ok(());
        }
        slf.get().end_view();
        Err(PyErr::fetch(slf.py()))
    }

    /// Releases a view.
    ///
    /// # Safety
    /// `view` must have been filled by `__getbuffer__` and not be released yet; CPython ensures
    /// that.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.end_view();
    }
}

#[pymethods]
impl Buffer {
    /// Fills `view` with the memory of the buffer's own mapping, whose object the view refers to.
    ///
    /// # Safety
    /// As for a mapping.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: the caller's pointer is writable (contract). After a failure the object must be
        // NULL.
        unsafe { view.write(ffi::Py_buffer::new()) };
        let mapping = slf.get().own_mapping(slf.py())?;
        // SAFETY: `view` is writable (contract), and `mapping` is a live object with this protocol.
        // The view refers to it, and so CPython releases the view there.
        let status = unsafe { ffi::PyObject_GetBuffer(mapping.as_ptr(), view, flags) };
        if status == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
