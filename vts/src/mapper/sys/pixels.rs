// SPDX-License-Identifier: Apache-2.0
//! Memory of a locked buffer, or its reserved region.

/// Memory that the mapper reports as mapped. Other processes may write to it at any time, so no
/// reference to it is created.
///
/// Invariant: it is mapped as long as this exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels {
    start: *mut u8,
    bytes: usize,
}

impl Pixels {
    pub(super) fn new(start: *mut u8, bytes: usize) -> Self {
        Self { start, bytes }
    }

    /// Returns its address.
    pub(crate) fn address(self) -> usize {
        self.start.addr()
    }

    /// Returns a byte.
    pub(crate) fn get(self, at: usize) -> u8 {
        assert!(at < self.bytes, "byte {at} is read, but there are {}", self.bytes);
        let byte = self.start.wrapping_add(at);
        // SAFETY: the byte is inside the mapping (checked; invariant), and may change at any time,
        // which a volatile access allows.
        unsafe { byte.read_volatile() }
    }

    /// Sets a byte.
    pub(crate) fn set(self, at: usize, value: u8) {
        assert!(at < self.bytes, "byte {at} is written, but there are {}", self.bytes);
        let byte = self.start.wrapping_add(at);
        // SAFETY: as in `get`. It is mapped for writing unless the suite is wrong about the lock,
        // and then a fault ends the suite.
        unsafe { byte.write_volatile(value) };
    }
}
