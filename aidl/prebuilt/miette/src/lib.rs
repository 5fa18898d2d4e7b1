// SPDX-License-Identifier: Apache-2.0
//! Takes the place of miette in the build of rsbinder, whose build script prints one error with it.

use std::error::Error;
use std::fmt;

/// An error that is shown by its own text.
pub struct Report(Box<dyn Error>);

impl Report {
    /// Returns what shows `error`.
    pub fn new(error: impl Error + 'static) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
