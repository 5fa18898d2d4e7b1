// SPDX-License-Identifier: Apache-2.0
//! The client library for Python. The package `anion` has this module's classes, typed in
//! `_anion.pyi`, and additional plain Python.
//!
//! Calls that may wait release the interpreter's lock, so that other Python threads continue.
//! Threads can share objects. Their locks are held only for a moment, with the interpreter's lock
//! and without running Python, so that no child of fork(2) finds one locked.

#![deny(unsafe_code)]

mod buffer;
mod client;
mod error;
mod held;
mod mapping;
mod pressure;
mod records;
mod request;
mod reservation;
mod sys;

#[pyo3::pymodule]
mod _anion {
    #[pymodule_export]
    use crate::buffer::Buffer;
    #[pymodule_export]
    use crate::client::{Client, connect};
    #[pymodule_export]
    use crate::mapping::{CpuAccess, Mapping, map_fd};
    #[pymodule_export]
    use crate::pressure::PressureWatch;
    #[pymodule_export]
    use crate::reservation::Reservation;
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
