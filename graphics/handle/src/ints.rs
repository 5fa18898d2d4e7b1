// SPDX-License-Identifier: Apache-2.0
//! Encodes a handle as the numbers of a native handle, and parses them.
//!
//! | index | number | | index | number |
//! |---|---|---|---|---|
//! | 0 | [`MAGIC`] | | 12, 13 | modifier |
//! | 1 | [`VERSION`] | | 14 | stride of the first plane: pixels |
//! | 2, 3 | id | | 15, 16 | bytes of the buffer |
//! | 4, 5 | width, height | | 17, 18 | bytes of the reserved region |
//! | 6 | layers | | 19 | access: 0 read and write, 1 read |
//! | 7 | format as requested | | 20 | bytes that rows are aligned to |
//! | 8, 9 | usage as requested | | 21 | planes |
//! | 10 | format that was chosen | | 22 + 6 × plane | offset, stride, bytes of each of four |
//! | 11 | fourcc | | | |
//!
//! Numbers of 64 bits have their lower half first.

use crate::handle::{Handle, Invalid, Request};
use anion_layout::{Format, LINEAR, Usage};
use anion_memory::{Access, BufferId};

/// First number of every handle of Anion's: `ANIg`.
pub const MAGIC: i32 = i32::from_le_bytes(*b"ANIg");
/// Second number. Handles of other versions are refused.
pub const VERSION: i32 = 1;
/// Numbers of a handle.
pub const INTS: usize = FIRST_PLANE + PLANES * PLANE_INTS;

const FIRST_PLANE: usize = 22;
const PLANES: usize = 4;
const PLANE_INTS: usize = 6;

/// Reason why numbers are no valid handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The number of numbers is wrong.
    #[error("the handle has {0} numbers, but it must have {INTS}")]
    Length(usize),
    /// The format is unknown.
    #[error("format is {0:#x}, which has no layout here")]
    Format(i32),
    /// The access is unknown.
    #[error("access is {0}, but it must be 0 or 1")]
    Access(i32),
    /// The values of the buffer are impossible.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A number differs from the value that the other numbers, or the version of handles, require.
    #[error("number {index} of the handle is {value:#x}, but it must be {expected:#x}")]
    Differs {
        /// Its index.
        index: usize,
        /// The value.
        value: i32,
        /// The expected value.
        expected: i32,
    },
}

impl Handle {
    /// Returns the numbers of a native handle whose descriptors are the buffer's and the
    /// metadata's.
    pub fn to_ints(&self) -> Vec<i32> {
        let (request, layout) = (self.request(), self.layout());
        let mut ints = Writer(Vec::with_capacity(INTS));
        ints.0.extend([MAGIC, VERSION]);
        ints.long(self.id().0);
        ints.words(&[request.width, request.height, request.layers]);
        ints.0.push(request.format.value());
        ints.long(request.usage.0);
        ints.0.push(layout.format.value());
        ints.words(&[layout.fourcc.0]);
        ints.long(LINEAR);
        ints.words(&[layout.stride]);
        ints.long(self.size());
        ints.long(request.reserved_size);
        ints.words(&[u32::from(self.access() == Access::ReadOnly), request.stride_align]);
        ints.planes(layout.planes());
        ints.0.resize(INTS, 0);
        ints.0
    }

    /// Parses the numbers of a native handle. The handle that is returned is always consistent;
    /// [`Handle::check`] compares it with its files.
    ///
    /// # Errors
    /// If [`Handle::to_ints`] returns these numbers for no buffer.
    pub fn parse(ints: &[i32]) -> Result<Self, Malformed> {
        let ints: &[i32; INTS] = ints.try_into().map_err(|_| Malformed::Length(ints.len()))?;
        for (index, expected) in [(0, MAGIC), (1, VERSION)] {
            is_same(index, ints[index], expected)?;
        }
        let word = |index: usize| ints[index].cast_unsigned();
        let long = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
        let request = Request {
            format: Format::from_value(ints[7]).ok_or(Malformed::Format(ints[7]))?,
            width: word(4),
            height: word(5),
            layers: word(6),
            usage: Usage(long(8)),
            stride_align: word(20),
            reserved_size: long(17),
        };
        let access = match ints[19] {
            0 => Access::ReadWrite,
            1 => Access::ReadOnly,
            other => return Err(Malformed::Access(other)),
        };
        let handle = Self::new(BufferId(long(2)), request, long(15), access)?;
        // The remaining numbers follow from those that were read.
        for (index, (value, expected)) in ints.iter().zip(handle.to_ints()).enumerate() {
            is_same(index, *value, expected)?;
        }
        Ok(handle)
    }
}

fn is_same(index: usize, value: i32, expected: i32) -> Result<(), Malformed> {
    if value == expected { Ok(()) } else { Err(Malformed::Differs { index, value, expected }) }
}

/// The numbers that were written so far.
struct Writer(Vec<i32>);

impl Writer {
    fn words(&mut self, values: &[u32]) {
        self.0.extend(values.iter().map(|value| value.cast_signed()));
    }

    /// Writes the lower half first.
    fn long(&mut self, value: u64) {
        let bytes = value.to_le_bytes();
        let (halves, _) = bytes.as_chunks();
        self.0.extend(halves.iter().map(|half| i32::from_le_bytes(*half)));
    }

    fn planes(&mut self, planes: &[anion_layout::Plane]) {
        self.0.push(i32::try_from(planes.len()).unwrap_or(i32::MAX));
        for plane in planes {
            self.long(plane.offset);
            self.long(plane.stride);
            self.long(plane.bytes);
        }
    }
}
