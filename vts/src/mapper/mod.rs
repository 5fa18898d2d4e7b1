// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of a mapper of version 5: 54 expectations that every Android device's
//! mapper is held to, under the names that Android's own suite has for them, and those that Anion's
//! adds. It knows the interface alone.
//!
//! The handles come from another process over a socket ([`source`]), as they do on a device, and
//! the mapper is loaded as the platform does it.

mod bodies;
mod decode;
pub(crate) mod source;
mod suite;
#[expect(unsafe_code, reason = "it calls a library of C's; the only folder of this suite with unsafe code")]
mod sys;
mod values;

/// Both sides of a comparison in the failure, and what it is about.
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
