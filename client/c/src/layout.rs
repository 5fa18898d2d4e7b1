// SPDX-License-Identifier: Apache-2.0
//! Layouts of images.

use crate::error::{Failure, anion_error, make};
use crate::record::Record;
use crate::sys::{self, Text};
use ::anion_client::{Format, Image, LINEAR, Layout, STRIDE_ALIGN, Usage};
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// A plane of an image.
#[repr(C)]
#[derive(Default)]
pub struct anion_plane {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// Bytes from the start of the buffer to its first sample.
    pub offset: u64,
    /// Bytes from a row to the next.
    pub stride: u64,
    /// Bytes of all rows with their padding.
    pub bytes: u64,
    /// Samples of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bits from a sample to the next in its row; 0 if samples do not begin at whole bytes.
    pub sample_increment: u32,
    /// Pixels of a row that share a sample.
    pub horizontal_subsampling: u32,
    /// Rows of pixels that share a sample.
    pub vertical_subsampling: u32,
}

/// The layout of an image in its buffer.
#[repr(C)]
#[derive(Default)]
pub struct anion_layout {
    /// Bytes of this structure that are filled.
    pub struct_size: usize,
    /// Bytes that a buffer needs.
    pub bytes: u64,
    /// The modifier of the layout for devices: DRM_FORMAT_MOD_LINEAR, 0.
    pub modifier: u64,
    /// The value of Android's PixelFormat; for IMPLEMENTATION_DEFINED, that of the selected format.
    pub format: i32,
    /// The code of drm_fourcc.h; 0 for formats without one.
    pub fourcc: u32,
    /// Distance from a row of the first plane to the next, in pixels; for RAW10 and RAW12, in
    /// bytes.
    pub stride: u32,
    /// The number of planes: 1 to 3.
    pub count: usize,
    /// The planes, in the order of their offsets.
    pub planes: *const *const anion_plane,
}

/// Computes the layout of an image. It needs no service. `format` is a name of Android's
/// PixelFormat, or NV12, NV16, NV21, P010 or P210; `usage` are bits of its BufferUsage, which
/// select the format of IMPLEMENTATION_DEFINED, and else 0. Rows begin at multiples of
/// `stride_align` bytes, a power of two up to 4096; 0 is 64. EINVAL if there is no such format, or
/// it has no image of this size.
#[unsafe(no_mangle)]
pub extern "C" fn anion_layout_image(
    format: Text<'_>,
    width: u32,
    height: u32,
    usage: u64,
    stride_align: u32,
    layout: Option<&mut MaybeUninit<*mut anion_layout>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(layout, "layout", error, || {
        let name = format.get("format")?.ok_or_else(|| Failure::Argument("format is NULL".to_owned()))?;
        let format: Format =
            name.parse().map_err(|why| Failure::Argument(format!("format is {name:?}, but {why}")))?;
        let align = if stride_align == 0 { STRIDE_ALIGN } else { stride_align };
        let image = Image::new(format, width, height).usage(Usage(usage)).stride_align(align);
        let layout = image.layout().map_err(|why| Failure::Argument(why.to_string()))?;
        Ok(record(&layout).into_c())
    })
}

/// Frees a layout.
#[unsafe(no_mangle)]
pub extern "C" fn anion_layout_free(layout: *mut anion_layout) {
    sys::free_record(layout);
}

fn record(layout: &Layout) -> Record<anion_layout> {
    let mut record = Record::<anion_layout>::default();
    let planes = layout.planes().iter().map(|plane| anion_plane {
        struct_size: size_of::<anion_plane>(),
        offset: plane.offset,
        stride: plane.stride,
        bytes: plane.bytes,
        width: plane.width,
        height: plane.height,
        sample_increment: plane.sample_increment,
        horizontal_subsampling: plane.horizontal_subsampling,
        vertical_subsampling: plane.vertical_subsampling,
    });
    let planes: Vec<_> = planes.collect();
    let (count, planes) = (planes.len(), record.pointers(planes));
    record.head = anion_layout {
        struct_size: size_of::<anion_layout>(),
        bytes: layout.bytes,
        modifier: LINEAR,
        format: layout.format.value(),
        fourcc: layout.fourcc.0,
        stride: layout.stride,
        count,
        planes,
    };
    record
}
