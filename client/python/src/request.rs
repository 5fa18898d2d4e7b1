// SPDX-License-Identifier: Apache-2.0
//! Builds requests from the keywords of a call.

use anion_client::{Access, Request};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString};

/// Returns the request for `count` buffers of `bytes` bytes with these keywords (`anion.Options`),
/// and the access that its buffers permit.
///
/// # Errors
/// `TypeError` for an unknown keyword, or a value of another type; `OverflowError` for a negative
/// number, or one that exceeds the interface's integers. The service checks the rest.
pub(crate) fn request(
    bytes: u64,
    count: u32,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Request, Access)> {
    let mut request = Request::new(bytes).count(count);
    let mut access = Access::ReadWrite;
    for (key, value) in options.into_iter().flatten() {
        let key: String = key.extract()?;
        request = match key.as_str() {
            "heaps" => with_heaps(request, &value).map_err(|error| named(value.py(), &key, error))?,
            "label" => request.name(&extracted::<String>(&key, &value)?),
            "alignment" => request.alignment(extracted(&key, &value)?),
            "cached" if extracted(&key, &value)? => request.cached(),
            "dma_buf" if extracted(&key, &value)? => request.dma_buf(),
            "unzeroed" if extracted(&key, &value)? => request.unzeroed(),
            "read_only" if extracted(&key, &value)? => {
                access = Access::ReadOnly;
                request.access(access)
            }
            "cached" | "dma_buf" | "unzeroed" | "read_only" => request,
            _ => return Err(PyTypeError::new_err(format!("unexpected keyword argument '{key}'"))),
        };
    }
    Ok((request, access))
}

/// Adds a mask of heap ids, a name, or several names in the order in which the service tries them.
fn with_heaps(request: Request, heaps: &Bound<'_, PyAny>) -> PyResult<Request> {
    if heaps.is_instance_of::<PyInt>() {
        return Ok(request.heap_mask(heaps.extract()?));
    }
    if let Ok(name) = heaps.cast::<PyString>() {
        return Ok(request.heap(&name.to_cow()?));
    }
    heaps.try_iter()?.try_fold(request, |request, name| Ok(request.heap(&name?.extract::<String>()?)))
}

/// Returns the value of a keyword.
fn extracted<T>(key: &str, value: &Bound<'_, PyAny>) -> PyResult<T>
where
    T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract().map_err(|error| named(value.py(), key, error))
}

/// Returns the error with a note that names the keyword, as errors of other arguments have.
fn named(py: Python<'_>, key: &str, error: PyErr) -> PyErr {
    // It fails if no memory is left; the error is complete without the note.
    let _ = error.value(py).call_method1("add_note", (format!("while processing '{key}'"),));
    error
}
