// SPDX-License-Identifier: Apache-2.0
//! Counts the steps of readers, for the test that they are proportional to the input: bytes that
//! are read, nodes and properties that are visited, names that are compared. Only tests count.

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts this number of steps.
#[cfg(test)]
pub(super) fn take(steps: usize) {
    TAKEN.with(|taken| taken.set(taken.get() + steps as u64));
}

/// Does nothing: only tests count steps.
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
