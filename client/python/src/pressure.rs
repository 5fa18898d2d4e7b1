// SPDX-License-Identifier: Apache-2.0
//! Memory pressure.

use crate::error::Failure;
use crate::held::Held;
use crate::records;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Receives the pressure level until this is closed.
#[pyclass(frozen, module = "anion")]
pub(crate) struct PressureWatch(pub(crate) Held<anion_client::PressureWatch>);

#[pymethods]
impl PressureWatch {
    /// Returns the last level that arrived since the last call, or None.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let level = self.0.get()?.next().map_err(Failure)?;
        level.map(|level| records::pressure(py, level)).transpose()
    }

    /// Returns the descriptor that is readable while there is a level.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.0.get()?.as_fd().as_raw_fd())
    }

    /// Ends the watch.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }

    /// Returns whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().0.get()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.0.close(py);
    }
}
