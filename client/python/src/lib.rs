// SPDX-License-Identifier: Apache-2.0
//! The client library for Python. The package `anion` has this module's classes, with their types
//! in `_anion.pyi`, and what is plain Python beside them.
//!
//! No call that may wait has the interpreter's lock: other threads of Python go on. Objects can be
//! used by several threads; what they hold is behind locks that are held for a moment, with the
//! interpreter's lock and without running Python, so that no child of fork(2) finds one locked.

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
