// SPDX-License-Identifier: Apache-2.0
//! The bodies, one file per subject.

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

/// One body, with its name.
pub(crate) type Body = (&'static str, fn(&Suite) -> Result<Outcome>);

/// How many of the bodies are Android's.
const OF_ANDROID: usize = 54;

/// Returns all bodies: Android's, then Anion's own.
pub(crate) fn all() -> Vec<Body> {
    let androids =
        [basic::BODIES, locking::BODIES, yuv::BODIES, constant::BODIES, settable::BODIES, lists::BODIES];
    let mut all = androids.concat();
    assert_eq!(all.len(), OF_ANDROID, "Android's suite has so many");
    all.extend(own::BODIES);
    all.extend(forged::BODIES);
    all
}

/// Lists a file's bodies under the names that Android has for them.
macro_rules! bodies {
    ($($name:literal $body:ident),+ $(,)?) => {
        pub(super) const BODIES: &[super::Body] = &[$(($name, $body)),+];
    };
}
use bodies;

use super::check_eq;
