// SPDX-License-Identifier: Apache-2.0
//! A native handle that a process builds from received data.

use super::abi::NativeHandle;
use anyhow::Result;
use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd};

/// A `native_handle_t` with descriptors of its own.
#[derive(Debug)]
pub(crate) struct Native {
    /// The three numbers of the struct, then the descriptors, then the numbers.
    words: Vec<c_int>,
    fds: Vec<OwnedFd>,
}

impl Native {
    /// Returns a handle with these descriptors and numbers.
    ///
    /// # Errors
    /// If there are more than a handle can count.
    pub(crate) fn new(fds: Vec<OwnedFd>, ints: &[i32]) -> Result<Self> {
        let head = [size_of::<NativeHandle>(), fds.len(), ints.len()].map(c_int::try_from);
        let mut words = head.into_iter().collect::<Result<Vec<_>, _>>()?;
        words.extend(fds.iter().map(AsRawFd::as_raw_fd));
        words.extend(ints);
        Ok(Self { words, fds })
    }

    /// Returns its numbers.
    pub(crate) fn ints(&self) -> &[i32] {
        &self.words[3 + self.fds.len()..]
    }

    /// Changes one of its numbers; returns the previous value.
    pub(crate) fn set_int(&mut self, at: usize, value: i32) -> i32 {
        let at = 3 + self.fds.len() + at;
        std::mem::replace(&mut self.words[at], value)
    }

    /// Returns its descriptors.
    pub(crate) fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Returns its address.
    pub(crate) fn address(&self) -> usize {
        self.words.as_ptr().addr()
    }

    pub(super) fn as_ptr(&self) -> *const NativeHandle {
        self.words.as_ptr().cast()
    }
}
