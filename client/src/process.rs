// SPDX-License-Identifier: Apache-2.0
//! Objects that belong to the process that made them: the service identifies connections, and a
//! child of fork(2) has copies of its parent's.

use std::mem;
use std::process;

/// A connection, or an object inside the service. A child of the process that made it cannot use
/// it, and does not end it for the parent by dropping its copy.
pub(super) struct OfProcess<T> {
    value: Option<T>,
    pid: u32,
}

impl<T> OfProcess<T> {
    /// Binds `value` to this process.
    pub(super) fn new(value: T) -> Self {
        Self { value: Some(value), pid: process::id() }
    }

    /// Returns the value; `None` in any process other than the one that made it.
    pub(super) fn get(&self) -> Option<&T> {
        self.own().filter(|_| self.pid == process::id())
    }

    /// Returns the value if the caller knows that this process made it, without the system call of
    /// [`OfProcess::get`]. `None` once it was taken.
    pub(super) fn own(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Takes the value; `None` in any other process.
    pub(super) fn take(&mut self) -> Option<T> {
        if self.pid == process::id() { self.value.take() } else { None }
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.pid != process::id() {
            // Its destructor would send to the service over the parent's socket, or release an
            // object that fork(2) did not copy, such as a thread.
            mem::forget(self.value.take());
        }
    }
}
