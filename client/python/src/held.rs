// SPDX-License-Identifier: Apache-2.0
//! State of a Python object until it is closed.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value that exists until the object is closed. A call of another thread can still use it after
/// that.
pub(crate) struct Held<T> {
    what: &'static str,
    value: Mutex<Option<Arc<T>>>,
}

impl<T: Send + Sync> Held<T> {
    /// Holds `value`; `what` is the object's name in errors.
    pub(crate) fn new(what: &'static str, value: T) -> Self {
        Self { what, value: Mutex::new(Some(Arc::new(value))) }
    }

    /// Returns the value.
    ///
    /// # Errors
    /// `ValueError` after the object was closed.
    pub(crate) fn get(&self) -> PyResult<Arc<T>> {
        lock(&self.value).clone().ok_or_else(|| closed(self.what))
    }

    /// Removes and returns the value; `None` after the object was closed.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        lock(&self.value).take()
    }

    /// Drops the value, without the interpreter's lock.
    pub(crate) fn close(&self, py: Python<'_>) {
        let value = self.take();
        py.detach(|| drop(value));
    }

    /// Returns whether the object is closed.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.value).is_none()
    }
}

/// Returns the error of calls to an object that is closed.
pub(crate) fn closed(what: &str) -> PyErr {
    PyValueError::new_err(format!("the {what} is closed"))
}

/// Locks a value that no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
