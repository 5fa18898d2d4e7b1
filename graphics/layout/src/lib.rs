// SPDX-License-Identifier: Apache-2.0
//! Layouts of images: the planes in a linear buffer.
//!
//! [`Image::layout`] returns the layout for a format of Android's `PixelFormat`, a width and a
//! height: the DRM code, each plane's offset, stride and components, and the size in bytes.
//! Service, mapper and client library compute the same layout. This crate allocates nothing and
//! makes no system calls.
//!
//! ```
//! use anion_layout::{Format, Image};
//!
//! let layout = Image::new(Format::Ycbcr420_888, 1920, 1080).layout()?;
//! assert_eq!(layout.fourcc.to_string(), "NV12");
//! let [luma, chroma] = layout.planes() else { panic!("two planes") };
//! assert_eq!((luma.offset, luma.stride), (0, 1920));
//! assert_eq!((chroma.offset, chroma.stride), (1920 * 1080, 1920));
//! # Ok::<(), anion_layout::Unsupported>(())
//! ```
//!
//! # Source
//!
//! The rules are those of Android's `PixelFormat.aidl` and `BufferUsage.aidl`. The codes are those
//! of `drm_fourcc.h`.

#![forbid(unsafe_code)]
#![no_std]

mod format;
mod image;
mod plane;
#[cfg(test)]
mod tests;
mod usage;

pub use format::{Format, Fourcc};
pub use image::{Image, LARGEST_STRIDE_ALIGN, LONGEST_SIDE, Layout, STRIDE_ALIGN, Unsupported};
pub use plane::{Component, ComponentKind, Plane};
pub use usage::Usage;

/// `DRM_FORMAT_MOD_LINEAR`: rows of pixels in sequence. All layouts of this crate are linear.
pub const LINEAR: u64 = 0;
