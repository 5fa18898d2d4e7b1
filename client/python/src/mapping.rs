// SPDX-License-Identifier: Apache-2.0
//! Mappings of buffers into this process.

use crate::error::Failure;
use crate::held::{closed, lock};
use crate::sys;
use anion_client::{Access, Phase};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, lseek};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

/// A mapping of a buffer: its memory stays until it is closed and the last view of it is gone.
#[pyclass(frozen, module = "anion")]
pub(crate) struct Mapping {
    state: Mutex<State>,
    access: Access,
    bytes: usize,
}

struct State {
    /// Never removed while there are views.
    map: Option<Arc<anion_client::Mapping>>,
    /// The number of views: memoryview, numpy.ndarray and other users of the buffer protocol.
    views: usize,
}

/// Memory of a view.
pub(crate) struct Memory {
    pub(crate) start: NonNull<u8>,
    pub(crate) bytes: usize,
    pub(crate) is_read_only: bool,
}

impl Mapping {
    /// Returns the Python object of a mapping.
    pub(crate) fn new(map: anion_client::Mapping) -> Self {
        let (access, bytes) = (map.access(), map.len());
        Self { state: Mutex::new(State { map: Some(Arc::new(map)), views: 0 }), access, bytes }
    }

    fn map(&self) -> PyResult<Arc<anion_client::Mapping>> {
        lock(&self.state).map.clone().ok_or_else(|| closed("mapping"))
    }

    /// Removes and returns the memory, for it to be unmapped; `None` after the mapping was closed.
    ///
    /// # Errors
    /// `BufferError` while there are views.
    pub(crate) fn take(&self) -> PyResult<Option<Arc<anion_client::Mapping>>> {
        let mut state = lock(&self.state);
        if state.views > 0 {
            let why = format!("cannot close: {} views of the memory exist", state.views);
            return Err(PyBufferError::new_err(why));
        }
        Ok(state.map.take())
    }

    /// Counts a view and returns its memory, which is valid until [`Mapping::end_view`] was called
    /// as often as this function.
    ///
    /// # Errors
    /// `ValueError` after the mapping was closed.
    pub(crate) fn begin_view(&self) -> PyResult<Memory> {
        let mut state = lock(&self.state);
        let start = state.map.as_ref().ok_or_else(|| closed("mapping"))?.as_ptr();
        state.views += 1;
        Ok(Memory { start, bytes: self.bytes, is_read_only: self.access == Access::ReadOnly })
    }

    /// Ends the count of a view.
    pub(crate) fn end_view(&self) {
        let mut state = lock(&self.state);
        state.views = state.views.saturating_sub(1);
    }
}

#[pymethods]
impl Mapping {
    /// Returns whether it permits reading alone.
    #[getter]
    fn read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Returns whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        lock(&self.state).map.is_none()
    }

    /// Returns a context manager that brackets accesses of the CPU.
    #[pyo3(signature = (access="rw"))]
    fn cpu(slf: Bound<'_, Self>, access: &str) -> PyResult<CpuAccess> {
        CpuAccess::new(slf.unbind(), access)
    }

    /// Unmaps it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let map = self.take()?;
        py.detach(|| drop(map));
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.bytes
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().map()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }
}

/// Maps a buffer by a descriptor of it, whichever process allocated it.
#[pyfunction]
#[pyo3(signature = (fd, bytes=None, access="rw"))]
pub(crate) fn map_fd(
    py: Python<'_>,
    fd: &Bound<'_, PyAny>,
    bytes: Option<usize>,
    access: &str,
) -> PyResult<Mapping> {
    let (access, fd) = (access_of(access)?, sys::duplicate(fd)?);
    let mapped = py.detach(|| {
        let bytes = bytes.map_or_else(|| size_of(&fd), Ok)?;
        anion_client::Mapping::new(&fd, bytes, access)
    });
    Ok(Mapping::new(mapped.map_err(Failure::system("cannot map the descriptor"))?))
}

/// Returns the size in bytes of a descriptor's buffer.
fn size_of(fd: &OwnedFd) -> io::Result<usize> {
    let told = fstat(fd)?.st_size;
    // Some drivers report the size only to lseek(2).
    let bytes = if told > 0 { told } else { lseek(fd, 0, Whence::SeekEnd)? };
    usize::try_from(bytes).map_err(io::Error::other)
}

/// Parses "r" or "rw".
///
/// # Errors
/// `ValueError` if it is neither.
pub(crate) fn access_of(word: &str) -> PyResult<Access> {
    match word {
        "r" => Ok(Access::ReadOnly),
        "rw" => Ok(Access::ReadWrite),
        _ => Err(PyValueError::new_err(format!("access is '{word}', but it must be 'r' or 'rw'"))),
    }
}

/// An access of the CPU to a mapping, which lasts for a `with` block.
#[pyclass(frozen, module = "anion")]
pub(crate) struct CpuAccess {
    mapping: Py<Mapping>,
    access: anion_client::CpuAccess,
    begun: Mutex<Option<Begun>>,
}

struct Begun {
    map: Arc<anion_client::Mapping>,
    view: Py<PyAny>,
}

impl CpuAccess {
    /// Returns the context manager for an access of "r", "w" or "rw".
    ///
    /// # Errors
    /// `ValueError` for another word.
    pub(crate) fn new(mapping: Py<Mapping>, word: &str) -> PyResult<Self> {
        let access = match word {
            "r" => anion_client::CpuAccess::Read,
            "w" => anion_client::CpuAccess::Write,
            "rw" => anion_client::CpuAccess::ReadWrite,
            _ => {
                let why = format!("access is '{word}', but it must be 'r', 'w' or 'rw'");
                return Err(PyValueError::new_err(why));
            }
        };
        Ok(Self { mapping, access, begun: Mutex::new(None) })
    }
}

#[pymethods]
impl CpuAccess {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if lock(&self.begun).is_some() {
            return Err(PyValueError::new_err("the access has begun already"));
        }
        let map = self.mapping.get().map()?;
        let view = PyMemoryView::from(self.mapping.bind(py))?.into_any();
        let is_read = self.access == anion_client::CpuAccess::Read;
        let view = if is_read { view.call_method0("toreadonly")? } else { view };
        let told = py.detach(|| map.tell(self.access, Phase::Start));
        told.map_err(Failure::system("cannot begin the access"))?;
        *lock(&self.begun) = Some(Begun { map, view: view.clone().unbind() });
        Ok(view.unbind())
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let begun = lock(&self.begun).take();
        let Begun { map, view } = begun.ok_or_else(|| PyValueError::new_err("the access has not begun"))?;
        // It fails if an object that still exists uses the view; the view then ends with that
        // object.
        let _ = view.call_method0(py, "release");
        let told = py.detach(|| map.tell(self.access, Phase::End));
        Ok(told.map_err(Failure::system("cannot end the access"))?)
    }
}
