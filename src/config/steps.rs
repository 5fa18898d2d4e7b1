// SPDX-License-Identifier: Apache-2.0
//! Counts what the readers do, for the test that they do no more than in proportion to what they
//! read: bytes that are looked at, nodes and properties that are visited, names that are compared.
//! Nothing is counted elsewhere.

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts so many steps.
#[cfg(test)]
pub(super) fn take(steps: usize) {
    TAKEN.with(|taken| taken.set(taken.get() + steps as u64));
}

/// Counts so many steps, in tests alone.
#[cfg(not(test))]
pub(super) const fn take(_: usize) {}

/// Returns the steps that `work` took in this thread.
#[cfg(all(test, feature = "dts"))]
pub(super) fn of(work: impl FnOnce()) -> u64 {
    let taken = || TAKEN.with(std::cell::Cell::get);
    let before = taken();
    work();
    taken() - before
}
