// SPDX-License-Identifier: Apache-2.0
//! Reservations.

use crate::error::Failure;
use crate::held::Held;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Buffers that the service reserves until this is closed.
#[pyclass(frozen, module = "anion")]
pub(crate) struct Reservation(pub(crate) Held<anion_client::Reservation>);

#[pymethods]
impl Reservation {
    /// Returns how many of its buffers are ready now.
    fn ready(&self, py: Python<'_>) -> PyResult<u32> {
        let reservation = self.0.get()?;
        Ok(py.detach(|| reservation.ready()).map_err(Failure)?)
    }

    /// Ends the reservation.
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
