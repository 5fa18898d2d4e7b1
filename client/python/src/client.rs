// SPDX-License-Identifier: Apache-2.0
//! The client of the service.

use crate::buffer::Buffer;
use crate::error::Failure;
use crate::held::Held;
use crate::pressure::PressureWatch;
use crate::records;
use crate::request::request;
use crate::reservation::Reservation;
use crate::sys;
use anion_client::{Access, Endpoint, Error, Settings};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client of the allocator service.
#[pyclass(frozen, module = "anion")]
pub(crate) struct Client(Held<anion_client::Client>);

/// Connects to the service.
#[pyfunction]
#[pyo3(signature = (endpoint=None, *, patience=5.0, connections=1))]
pub(crate) fn connect(
    py: Python<'_>,
    endpoint: Option<PathBuf>,
    patience: f64,
    connections: u32,
) -> PyResult<Client> {
    if connections == 0 {
        return Err(PyValueError::new_err("connections is 0, but it must be at least 1"));
    }
    let settings = Settings {
        endpoint: endpoint.as_deref().map(endpoint_of).transpose()?,
        patience: Duration::try_from_secs_f64(patience)
            .map_err(|error| PyValueError::new_err(format!("patience is {patience} s, but: {error}")))?,
        connections,
    };
    let client = py.detach(|| anion_client::Client::with(settings)).map_err(Failure)?;
    Ok(Client(Held::new("client", client)))
}

/// Parses an endpoint.
///
/// # Errors
/// `ValueError` if it is not valid, or not UTF-8.
fn endpoint_of(text: &Path) -> PyResult<Endpoint> {
    let Some(text) = text.to_str() else {
        return Err(PyValueError::new_err(format!("endpoint is {text:?}, but it must be UTF-8")));
    };
    let parsed: Result<Endpoint, _> = text.parse();
    parsed.map_err(|error| PyValueError::new_err(error.to_string()))
}

impl Client {
    /// Makes a call without the interpreter's lock.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&anion_client::Client) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let client = self.0.get()?;
        Ok(py.detach(|| ask(&client)).map_err(Failure)?)
    }

    fn allocate_all(
        &self,
        py: Python<'_>,
        bytes: u64,
        count: u32,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<(Vec<anion_client::Buffer>, Access)> {
        let (request, access) = request(bytes, count, options)?;
        Ok((self.call(py, |client| client.allocate(&request))?, access))
    }
}

#[pymethods]
impl Client {
    /// Returns the address of the service: a socket's path or "binder:DEVICE".
    #[getter]
    fn endpoint(&self) -> PyResult<String> {
        Ok(self.0.get()?.endpoint().to_string())
    }

    /// Returns the number of services that the client was connected to so far.
    #[getter]
    fn generation(&self) -> PyResult<u64> {
        Ok(self.0.get()?.generation())
    }

    /// Returns whether close() was called.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Allocates a buffer.
    #[pyo3(signature = (bytes, **options))]
    fn allocate(&self, py: Python<'_>, bytes: u64, options: Option<&Bound<'_, PyDict>>) -> PyResult<Buffer> {
        let (buffers, access) = self.allocate_all(py, bytes, 1, options)?;
        let buffer = buffers.into_iter().next();
        let none = || Failure(Error::Contract("the reply has no buffer".to_owned()));
        Ok(Buffer::new(buffer.ok_or_else(none)?, access))
    }

    /// Allocates so many equal buffers of one heap, all or none.
    #[pyo3(signature = (bytes, count, **options))]
    fn allocate_many(
        &self,
        py: Python<'_>,
        bytes: u64,
        count: u32,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Buffer>> {
        let (buffers, access) = self.allocate_all(py, bytes, count, options)?;
        Ok(buffers.into_iter().map(|buffer| Buffer::new(buffer, access)).collect())
    }

    /// Explains what an allocation would do, heap by heap.
    #[pyo3(signature = (bytes, count=1, **options))]
    fn explain<'py>(
        &self,
        py: Python<'py>,
        bytes: u64,
        count: u32,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (request, _) = request(bytes, count, options)?;
        records::explanation(py, &self.call(py, |client| client.explain(&request))?)
    }

    /// Reserves buffers.
    fn reserve(&self, py: Python<'_>, heap: &str, bytes: u64, count: u32) -> PyResult<Reservation> {
        let reservation = self.call(py, |client| client.reserve(heap, bytes, count))?;
        Ok(Reservation(Held::new("reservation", reservation)))
    }

    /// Identifies a buffer by a descriptor of it.
    fn describe<'py>(&self, py: Python<'py>, fd: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let copy = sys::duplicate(fd)?;
        records::description(py, &self.call(py, |client| client.describe(copy))?)
    }

    /// Lists the heaps in the order in which they are tried.
    fn heaps<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let heaps = self.call(py, anion_client::Client::heaps)?;
        heaps.iter().map(|heap| records::heap(py, heap)).collect()
    }

    /// Lists how much each uid holds.
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let rows = self.call(py, |client| client.call(|service| service.getUsage()))?;
        rows.iter().map(|row| records::usage(py, row)).collect()
    }

    /// Returns the level of memory pressure.
    fn pressure<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        records::pressure(py, self.call(py, anion_client::Client::pressure)?)
    }

    /// Begins to listen for levels of memory pressure.
    fn watch_pressure(&self, py: Python<'_>) -> PyResult<PressureWatch> {
        let watch = self.call(py, anion_client::Client::watch_pressure)?;
        Ok(PressureWatch(Held::new("pressure watch", watch)))
    }

    /// Ends the connection.
    fn close(&self, py: Python<'_>) {
        self.0.close(py);
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
