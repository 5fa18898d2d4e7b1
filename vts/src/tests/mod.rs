// SPDX-License-Identifier: Apache-2.0
//! The tests, one file for each feature. The compiler reports a function that its file does not
//! list as dead code.

mod access;
mod adoption;
mod batches;
mod concurrency;
mod descriptors;
mod domains;
mod dump;
mod explain;
mod graphics;
mod heaps;
mod identity;
mod lifetime;
mod pressure;
mod quota;
mod reservations;
mod robustness;
mod sizes;
mod stats;
mod tokens;
mod zeroing;

use crate::outcome::Test;

/// Returns every test.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    [
        heaps::TESTS,
        sizes::TESTS,
        batches::TESTS,
        descriptors::TESTS,
        zeroing::TESTS,
        lifetime::TESTS,
        tokens::TESTS,
        access::TESTS,
        identity::TESTS,
        adoption::TESTS,
        explain::TESTS,
        quota::TESTS,
        reservations::TESTS,
        stats::TESTS,
        dump::TESTS,
        pressure::TESTS,
        domains::TESTS,
        concurrency::TESTS,
        robustness::TESTS,
        graphics::TESTS,
    ]
    .into_iter()
    .flatten()
}
