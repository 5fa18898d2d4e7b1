// SPDX-License-Identifier: Apache-2.0
//! Buffers.

use crate::error::Failure;
use crate::held::{Held, lock};
use crate::mapping::{CpuAccess, Mapping, access_of};
use anion_client::{Access, Backing};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, RawFd};
use std::sync::{Arc, Mutex};

/// A buffer that this process holds.
#[pyclass(frozen, module = "anion")]
pub(crate) struct Buffer {
    held: Held<anion_client::Buffer>,
    access: Access,
    /// The mapping of the buffer's own views: created for the first view, closed with the buffer.
    /// The buffer is neither closed nor detached while this is locked.
    mapping: Mutex<Option<Py<Mapping>>>,
    #[pyo3(get)]
    id: u64,
    bytes: u64,
    #[pyo3(get)]
    heap: String,
    #[pyo3(get)]
    heap_id: u32,
    #[pyo3(get)]
    backing: Option<&'static str>,
}

impl Buffer {
    /// Returns the Python object of a buffer that permits `access`.
    pub(crate) fn new(buffer: anion_client::Buffer, access: Access) -> Self {
        Self {
            access,
            mapping: Mutex::new(None),
            id: buffer.id().0,
            bytes: buffer.bytes(),
            heap: buffer.heap().to_owned(),
            heap_id: buffer.heap_id(),
            backing: buffer.backing().map(Backing::name),
            held: Held::new("buffer", buffer),
        }
    }

    /// Returns the mapping of the buffer's own views.
    ///
    /// # Errors
    /// `ValueError` after the buffer was closed; `anion.Error` if it cannot be mapped.
    pub(crate) fn own_mapping(&self, py: Python<'_>) -> PyResult<Py<Mapping>> {
        if let Some(mapping) = lock(&self.mapping).as_ref() {
            return Ok(mapping.clone_ref(py));
        }
        let made = Py::new(py, self.mapped(py, self.access)?)?;
        let mut place = lock(&self.mapping);
        // Another thread may have closed or mapped the buffer since.
        self.held.get()?;
        Ok(place.get_or_insert(made).clone_ref(py))
    }

    fn mapped(&self, py: Python<'_>, access: Access) -> PyResult<Mapping> {
        let buffer = self.held.get()?;
        let mapping = py.detach(|| buffer.map(access));
        Ok(Mapping::new(mapping.map_err(Failure::system("cannot map the buffer"))?))
    }
}

#[pymethods]
impl Buffer {
    /// Returns whether its descriptor permits reading alone.
    #[getter]
    fn read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Returns whether close() or detach() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.held.is_closed()
    }

    /// Returns the descriptor, which stays the buffer's.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.held.get()?.as_fd().as_raw_fd())
    }

    /// Closes the buffer without closing its descriptor, and returns that.
    fn detach(&self, py: Python<'_>) -> PyResult<RawFd> {
        let mut mapping = lock(&self.mapping);
        let buffer = self.held.get()?;
        let own = (mapping.take(), self.held.take());
        // As in `close`.
        drop(mapping);
        drop(own);
        let fd = py.detach(|| match Arc::try_unwrap(buffer) {
            Ok(buffer) => Ok(buffer.into_fd()),
            // A call of another thread still uses the buffer.
            Err(shared) => shared.as_fd().try_clone_to_owned(),
        });
        Ok(fd.map_err(Failure::system("cannot copy the descriptor"))?.into_raw_fd())
    }

    /// Maps all of it.
    #[pyo3(signature = (access=None))]
    fn map(&self, py: Python<'_>, access: Option<&str>) -> PyResult<Mapping> {
        let access = access.map_or(Ok(self.access), access_of)?;
        self.mapped(py, access)
    }

    /// Returns a context manager that brackets accesses of the CPU.
    #[pyo3(signature = (access="rw"))]
    fn cpu(&self, py: Python<'_>, access: &str) -> PyResult<CpuAccess> {
        CpuAccess::new(self.own_mapping(py)?, access)
    }

    /// Closes the descriptor and the mapping of the buffer's own views.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut mapping = lock(&self.mapping);
        let map = mapping.as_ref().map(|mapping| mapping.get().take()).transpose()?;
        let (own, buffer) = (mapping.take(), self.held.take());
        // Before the interpreter's lock is released: a thread that waits for `mapping` holds it.
        drop(mapping);
        drop(own);
        py.detach(|| drop((map, buffer)));
        Ok(())
    }

    fn __len__(&self) -> PyResult<usize> {
        usize::try_from(self.bytes).map_err(|error| PyOverflowError::new_err(error.to_string()))
    }

    /// A buffer is always true, whatever its length.
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        let state = if self.held.is_closed() { ", closed" } else { "" };
        format!("<anion.Buffer {} of heap {}, {} bytes{state}>", self.id, self.heap, self.bytes)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().held.get()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}
