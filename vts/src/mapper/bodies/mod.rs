// SPDX-License-Identifier: Apache-2.0
//! The tests, one file for each subject.

mod basic;
mod constant;
mod forged;
mod lists;
mod locking;
mod own;
mod settable;
mod yuv;

use super::suite::{Outcome, Suite};
use anyhow::Result;

/// One test, with its name.
pub(crate) type Body = (&'static str, fn(&Suite) -> Result<Outcome>);

/// The number of tests that are Android's.
const OF_ANDROID: usize = 54;

/// Returns all tests: Android's, then Anion's own.
pub(crate) fn all() -> Vec<Body> {
    let androids =
        [basic::BODIES, locking::BODIES, yuv::BODIES, constant::BODIES, settable::BODIES, lists::BODIES];
    let mut all = androids.concat();
    assert_eq!(all.len(), OF_ANDROID, "Android's suite has so many");
    all.extend(own::BODIES);
    all.extend(forged::BODIES);
    all
}

/// Lists a file's tests under the names that Android uses for them.
macro_rules! bodies {
    ($($name:literal $body:ident),+ $(,)?) => {
        pub(super) const BODIES: &[super::Body] = &[$(($name, $body)),+];
    };
}
use bodies;

use super::check_eq;
