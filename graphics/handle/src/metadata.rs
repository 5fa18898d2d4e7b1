// SPDX-License-Identifier: Apache-2.0
//! The metadata file of a buffer: metadata that clients set, and the region that is reserved for
//! them.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | [`MAGIC`] |
//! | 4 | 4 | [`VERSION`] |
//! | 16 | 128 | [`NAME`], up to its NUL |
//! | 144 | 4 | [`DATASPACE`] |
//! | 148 | 4 | [`BLEND_MODE`] |
//! | 152 | 4 + 40 | [`SMPTE2086`]: whether it is set, ten floating point numbers |
//! | 200 | 4 + 8 | [`CTA861_3`]: whether it is set, two floating point numbers |
//! | 216 | 8 + 2048 | [`SMPTE2094_40`]: whether it is set, its length, its bytes |
//! | 2272 | 8 + 1024 | [`SMPTE2094_10`]: the same |
//! | [`RESERVED_AT`] | as many as requested | the reserved region |
//!
//! Numbers are little endian. Other processes may write at any time, so a reader may get any value,
//! also parts of two values. Lengths are read once, and checked afterwards.

/// First four bytes: `ANIm`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"ANIm");
/// The next four bytes. Files of other versions are refused.
pub const VERSION: u32 = 1;
/// Bytes of the metadata.
pub const BYTES: u64 = 4096;
/// Offset of the reserved region: a multiple of the largest page size of Linux.
pub const RESERVED_AT: u64 = 64 << 10;
/// Most bytes of the reserved region.
pub const MAX_RESERVED: u64 = 1 << 30;

/// A range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Metadata that may be unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optional {
    /// A number of four bytes: 0 if it is unset.
    pub is_set: Place,
    /// The value.
    pub value: Place,
}

/// Metadata of variable length that may be unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// A number of four bytes: 0 if it is unset.
    pub is_set: Place,
    /// A number of four bytes: the length. It may have any value.
    pub length: Place,
    /// The range for the value, of the maximal length.
    pub value: Place,
}

const fn place(offset: usize, bytes: usize) -> Place {
    Place { offset, bytes }
}

const fn optional(offset: usize, bytes: usize) -> Optional {
    Optional { is_set: place(offset, 4), value: place(offset + 4, bytes) }
}

const fn bounded(offset: usize, bytes: usize) -> Bounded {
    Bounded { is_set: place(offset, 4), length: place(offset + 4, 4), value: place(offset + 8, bytes) }
}

/// [`MAGIC`] and [`VERSION`].
pub const HEAD: Place = place(0, 8);
/// The buffer's name. Bytes after its first NUL have no meaning.
pub const NAME: Place = place(16, 128);
/// A value of Android's `Dataspace`.
pub const DATASPACE: Place = place(144, 4);
/// A value of Android's `BlendMode`.
pub const BLEND_MODE: Place = place(148, 4);
/// Colours and luminance of the display that content was mastered on.
pub const SMPTE2086: Optional = optional(152, 40);
/// Light levels of the content.
pub const CTA861_3: Optional = optional(200, 8);
/// Dynamic metadata for colour volume transforms, application 4.
pub const SMPTE2094_40: Bounded = bounded(216, 2048);
/// The same, application 1.
pub const SMPTE2094_10: Bounded = bounded(2272, 1024);

/// Returns the size of the file. With a reserved region, the bytes between the metadata and the
/// region are a hole that uses no memory.
pub const fn size(reserved_size: u64) -> u64 {
    match reserved_size {
        0 => BYTES,
        size => RESERVED_AT.saturating_add(size),
    }
}

/// Returns the initial content of the file's start. All other bytes are zero: nothing is set, the
/// blend mode is `INVALID`.
///
/// `name` ends at its first NUL, or after 127 bytes.
pub fn initial(name: &[u8], dataspace: i32) -> Vec<u8> {
    let mut page = Vec::with_capacity(DATASPACE.offset + DATASPACE.bytes);
    page.extend(MAGIC.to_le_bytes());
    page.extend(VERSION.to_le_bytes());
    page.resize(NAME.offset, 0);
    page.extend(name.iter().take(NAME.bytes - 1).take_while(|byte| **byte != 0));
    page.resize(DATASPACE.offset, 0);
    page.extend(dataspace.to_le_bytes());
    page
}
