// SPDX-License-Identifier: Apache-2.0
//! Errors for Python: `anion.Error`, an `OSError`.

use crate::records::class;
use anion_client::Error;
use pyo3::prelude::*;
use std::io;

/// Cause of a failure, before it is converted for Python.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Error);

impl Failure {
    /// Returns a function that converts a system call's error to a failure; `what` names the call.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self(Error::Local { what, cause })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| exception(py, &failure.0).map_or_else(|fault| fault, PyErr::from_value))
    }
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let exception = class(py, "Error")?.call1((error.errno(), error.to_string()))?;
    exception.setattr("refusal", error.refusal().map(|refusal| refusal.to_string()))?;
    Ok(exception)
}
