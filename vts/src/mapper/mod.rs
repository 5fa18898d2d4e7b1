// SPDX-License-Identifier: Apache-2.0
//! The conformance suite for mappers of version 5: 54 tests of Android's own suite, under their
//! names there, and additional tests of Anion. It depends only on the interface.
//!
//! Another process sends the handles over a socket ([`source`]), as on a device. The suite loads
//! the mapper as the platform does.

mod bodies;
mod decode;
pub(crate) mod source;
mod suite;
#[expect(unsafe_code, reason = "it calls a library of C's; the only folder of this suite with unsafe code")]
mod sys;
mod values;

/// Compares two values, and reports both with the subject of the comparison.
macro_rules! check_eq {
    ($left:expr, $right:expr, $($about:tt)+) => {
        match (&$left, &$right) {
            (left, right) => anyhow::ensure!(
                left == right,
                "{}: expected {right:?}, found {left:?}",
                format_args!($($about)+)
            ),
        }
    };
}
pub(crate) use check_eq;

pub(crate) use bodies::all;
pub(crate) use suite::{Outcome, Suite};
pub(crate) use values::Dumped;
