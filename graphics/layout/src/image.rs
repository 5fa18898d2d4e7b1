// SPDX-License-Identifier: Apache-2.0
//! Descriptions of images, and their layouts.

use crate::format::{Format, Fourcc};
use crate::plane::{Component, ComponentKind, Plane};
use crate::usage::Usage;
use ComponentKind::{A, B, Cb, Cr, G, R, Raw, Y};

/// Pixels of the longest row or column of an image, except for [`Format::Blob`].
pub const LONGEST_SIDE: u32 = 32768;
/// Default alignment of rows in bytes, which displays and video devices accept.
/// [`Image::stride_align`] changes it.
pub const STRIDE_ALIGN: u32 = 64;
/// Largest alignment of rows in bytes.
pub const LARGEST_STRIDE_ALIGN: u32 = 4096;
/// Alignment of rows in pixels that `PixelFormat.aidl` requires for some formats.
const PIXELS: u32 = 16;

/// An image for which a buffer is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    format: Format,
    width: u32,
    height: u32,
    usage: Usage,
    stride_align: u32,
}

/// The layout of an image in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The requested format; for [`Format::ImplementationDefined`], the selected one.
    pub format: Format,
    /// The format's code for devices; 0, `DRM_FORMAT_INVALID`, for formats without one.
    pub fourcc: Fourcc,
    /// Distance from a row of the first plane to the next, in pixels; for [`Format::Raw10`] and
    /// [`Format::Raw12`], in bytes.
    pub stride: u32,
    /// Bytes of all planes.
    pub bytes: u64,
    planes: [Plane; 3],
    count: usize,
}

/// Reason why there is no layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The side is 0 or too long.
    #[error("{side} is {value}, but of {format} it must be 1 to {limit}")]
    Side {
        /// `width` or `height`.
        side: &'static str,
        /// The requested value.
        value: u32,
        /// The format.
        format: Format,
        /// The limit.
        limit: u32,
    },
    /// The format stores its pixels in groups.
    #[error("{side} is {value}, but of {format} it must be a multiple of {multiple}")]
    Multiple {
        /// `width` or `height`.
        side: &'static str,
        /// The requested value.
        value: u32,
        /// The format.
        format: Format,
        /// Pixels of a group.
        multiple: u32,
    },
    /// The alignment is not valid.
    #[error("the alignment of rows is {0}, but it must be a power of two from 1 to {LARGEST_STRIDE_ALIGN}")]
    StrideAlign(u32),
}

impl Image {
    /// Returns an image of this format and of this size in pixels.
    pub fn new(format: Format, width: u32, height: u32) -> Self {
        Self { format, width, height, usage: Usage(0), stride_align: STRIDE_ALIGN }
    }

    /// Sets the usage, which selects the format of [`Format::ImplementationDefined`].
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Sets the alignment of the rows of all planes in bytes: a power of two up to 4096.
    #[must_use]
    pub fn stride_align(mut self, bytes: u32) -> Self {
        self.stride_align = bytes;
        self
    }

    /// Returns the layout. That of [`Format::Blob`] has no padding with any alignment.
    ///
    /// # Errors
    /// If a side is 0, too long, or no multiple of what the format requires; if the alignment of
    /// rows is no power of two up to 4096.
    pub fn layout(&self) -> Result<Layout, Unsupported> {
        let format = match self.format {
            Format::ImplementationDefined if self.usage.has(Usage::CAMERA_OUTPUT | Usage::CAMERA_INPUT) => {
                Format::Ycbcr420_888
            }
            Format::ImplementationDefined => Format::Rgbx8888,
            format => format,
        };
        let shape = Shape::of(format);
        self.check(format, &shape)?;
        Ok(self.arrange(format, &shape))
    }

    fn check(&self, format: Format, shape: &Shape) -> Result<(), Unsupported> {
        if !self.stride_align.is_power_of_two() || self.stride_align > LARGEST_STRIDE_ALIGN {
            return Err(Unsupported::StrideAlign(self.stride_align));
        }
        let longest =
            if format == Format::Blob { (i32::MAX.unsigned_abs(), 1) } else { (LONGEST_SIDE, LONGEST_SIDE) };
        let (of_width, of_height) = shape.multiples();
        for (side, value, limit, multiple) in
            [("width", self.width, longest.0, of_width), ("height", self.height, longest.1, of_height)]
        {
            if value == 0 || value > limit {
                return Err(Unsupported::Side { side, value, format, limit });
            }
            if value % multiple != 0 {
                return Err(Unsupported::Multiple { side, value, format, multiple });
            }
        }
        Ok(())
    }

    fn arrange(&self, format: Format, shape: &Shape) -> Layout {
        let (width, height) = (self.width, self.height);
        let whole =
            |components, increment, stride| plane(0, components, increment, stride, width, height, (1, 1));
        match *shape {
            Shape::Packed { fourcc, bytes, components, pixels, .. } => {
                let stride = width.next_multiple_of(self.step(bytes, pixels));
                let first = whole(components, bytes * 8, u64::from(stride) * u64::from(bytes));
                Layout::new(format, fourcc, stride, &[first])
            }
            Shape::Bytes { components } => {
                Layout::new(format, R8, width, &[whole(components, 8, u64::from(width))])
            }
            Shape::Bits { bits, components } => {
                let stride = (width * bits / 8).next_multiple_of(self.stride_align);
                Layout::new(format, NONE, stride, &[whole(components, 0, u64::from(stride))])
            }
            Shape::TwoPlanes { fourcc, bytes, rows, luma, chroma } => {
                // Chroma has a pair for two pixels, also for the last pixel of an odd row.
                let stride = width.next_multiple_of(2).next_multiple_of(self.step(bytes, 1));
                let row = u64::from(stride) * u64::from(bytes);
                let first = whole(luma, bytes * 8, row);
                let (half, lines) = (width.div_ceil(2), height.div_ceil(rows));
                let second = plane(first.bytes, chroma, bytes * 16, row, half, lines, (2, rows));
                Layout::new(format, fourcc, stride, &[first, second])
            }
            Shape::ThreePlanes => {
                // Rows of chroma have half of the bytes, and must be aligned, too.
                let stride = width.next_multiple_of((self.stride_align * 2).max(PIXELS));
                let first = whole(&LUMA, 8, u64::from(stride));
                let row = u64::from((stride / 2).next_multiple_of(PIXELS));
                let half =
                    |offset, components| plane(offset, components, 8, row, width / 2, height / 2, (2, 2));
                let second = half(first.bytes, &RED_CHROMA);
                let third = half(first.bytes + second.bytes, &BLUE_CHROMA);
                Layout::new(format, Fourcc::new(*b"YV12"), stride, &[first, second, third])
            }
        }
    }

    /// Returns the alignment of rows in pixels of `bytes` bytes each, a multiple of `pixels`, which
    /// is a power of two.
    fn step(&self, bytes: u32, pixels: u32) -> u32 {
        let common = 1 << bytes.trailing_zeros().min(self.stride_align.trailing_zeros());
        (self.stride_align / common).max(pixels)
    }
}

/// Returns a plane of these samples.
fn plane(
    offset: u64,
    components: &'static [Component],
    sample_increment: u32,
    stride: u64,
    width: u32,
    height: u32,
    (horizontal_subsampling, vertical_subsampling): (u32, u32),
) -> Plane {
    let bytes = stride * u64::from(height);
    Plane {
        offset,
        sample_increment,
        stride,
        width,
        height,
        bytes,
        horizontal_subsampling,
        vertical_subsampling,
        components,
    }
}

impl Layout {
    fn new(format: Format, fourcc: Fourcc, stride: u32, planes: &[Plane]) -> Self {
        let first = planes[0];
        let mut all = [first; 3];
        all[..planes.len()].copy_from_slice(planes);
        let bytes = planes.iter().map(|plane| plane.bytes).sum();
        Self { format, fourcc, stride, bytes, planes: all, count: planes.len() }
    }

    /// Returns its planes, 1 to 3, in the order of their offsets.
    pub fn planes(&self) -> &[Plane] {
        &self.planes[..self.count]
    }
}

/// Arrangement of the pixels of a format.
enum Shape {
    /// All components of a pixel are adjacent, and rows have a multiple of `pixels` pixels. If
    /// `is_even`, both sides must be even.
    Packed { fourcc: Fourcc, bytes: u32, components: &'static [Component], pixels: u32, is_even: bool },
    /// One row, without padding.
    Bytes { components: &'static [Component] },
    /// Pixels of `bits` bits without gaps.
    Bits { bits: u32, components: &'static [Component] },
    /// A plane of luma in numbers of `bytes` bytes, and a plane of both chromas, each for two
    /// pixels of `rows` rows.
    TwoPlanes {
        fourcc: Fourcc,
        bytes: u32,
        rows: u32,
        luma: &'static [Component],
        chroma: &'static [Component],
    },
    /// Planes of luma, of chroma red and of chroma blue.
    ThreePlanes,
}

impl Shape {
    fn of(format: Format) -> Self {
        let packed = |fourcc, bytes, components| Self::Packed {
            fourcc: Fourcc::new(fourcc),
            bytes,
            components,
            pixels: 1,
            is_even: false,
        };
        let of_sensor = |fourcc, bytes, components| Self::Packed {
            fourcc: Fourcc::new(fourcc),
            bytes,
            components,
            pixels: PIXELS,
            is_even: true,
        };
        let two = |fourcc, bytes, rows, luma, chroma| Self::TwoPlanes {
            fourcc: Fourcc::new(fourcc),
            bytes,
            rows,
            luma,
            chroma,
        };
        match format {
            Format::Rgba8888 => packed(*b"AB24", 4, &RGBA),
            // It has been replaced before.
            Format::Rgbx8888 | Format::ImplementationDefined => packed(*b"XB24", 4, RGBA.split_at(3).0),
            Format::Rgb888 => packed(*b"BG24", 3, RGBA.split_at(3).0),
            Format::Rgb565 => packed(*b"RG16", 2, &RGB_565),
            Format::Bgra8888 => packed(*b"AR24", 4, &BGRA),
            Format::RgbaFp16 => packed(*b"AB4H", 8, &RGBA_16),
            Format::Rgba1010102 => packed(*b"AB30", 4, &RGBA_10),
            Format::R8 => packed(*b"R8  ", 1, &RED),
            Format::Raw16 => of_sensor(*b"R16 ", 2, &RAW_16),
            Format::Y8 => of_sensor(*b"R8  ", 1, &LUMA),
            Format::Y16 => of_sensor(*b"R16 ", 2, &LUMA_16),
            Format::Blob => Self::Bytes { components: &RED },
            Format::Raw10 => Self::Bits { bits: 10, components: &RAW_BITS },
            Format::Raw12 => Self::Bits { bits: 12, components: &RAW_BITS },
            Format::Ycbcr420_888 => two(*b"NV12", 1, 2, &LUMA, &CHROMAS),
            Format::Ycrcb420Sp => two(*b"NV21", 1, 2, &LUMA, &RED_BLUE_CHROMAS),
            Format::Ycbcr422Sp => two(*b"NV16", 1, 1, &LUMA, &CHROMAS),
            Format::YcbcrP010 => two(*b"P010", 2, 2, &LUMA_10, &CHROMAS_10),
            Format::YcbcrP210 => two(*b"P210", 2, 1, &LUMA_10, &CHROMAS_10),
            Format::Yv12 => Self::ThreePlanes,
        }
    }

    /// Returns the numbers of which width and height must be multiples.
    fn multiples(&self) -> (u32, u32) {
        match self {
            Self::Packed { is_even: true, .. } | Self::ThreePlanes => (2, 2),
            Self::Bits { .. } => (4, 2),
            Self::Packed { .. } | Self::Bytes { .. } | Self::TwoPlanes { .. } => (1, 1),
        }
    }
}

const R8: Fourcc = Fourcc::new(*b"R8  ");
/// `DRM_FORMAT_INVALID`.
const NONE: Fourcc = Fourcc(0);

const fn part(kind: ComponentKind, offset: u32, size: u32) -> Component {
    Component { kind, offset, size: Some(size) }
}

static RGBA: [Component; 4] = [part(R, 0, 8), part(G, 8, 8), part(B, 16, 8), part(A, 24, 8)];
static BGRA: [Component; 4] = [part(B, 0, 8), part(G, 8, 8), part(R, 16, 8), part(A, 24, 8)];
static RGBA_10: [Component; 4] = [part(R, 0, 10), part(G, 10, 10), part(B, 20, 10), part(A, 30, 2)];
static RGBA_16: [Component; 4] = [part(R, 0, 16), part(G, 16, 16), part(B, 32, 16), part(A, 48, 16)];
static RGB_565: [Component; 3] = [part(B, 0, 5), part(G, 5, 6), part(R, 11, 5)];
static RED: [Component; 1] = [part(R, 0, 8)];
static RAW_16: [Component; 1] = [part(Raw, 0, 16)];
static RAW_BITS: [Component; 1] = [Component { kind: Raw, offset: 0, size: None }];
static LUMA: [Component; 1] = [part(Y, 0, 8)];
static LUMA_10: [Component; 1] = [part(Y, 6, 10)];
static LUMA_16: [Component; 1] = [part(Y, 0, 16)];
static CHROMAS: [Component; 2] = [part(Cb, 0, 8), part(Cr, 8, 8)];
static CHROMAS_10: [Component; 2] = [part(Cb, 6, 10), part(Cr, 22, 10)];
static RED_BLUE_CHROMAS: [Component; 2] = [part(Cr, 0, 8), part(Cb, 8, 8)];
static RED_CHROMA: [Component; 1] = [part(Cr, 0, 8)];
static BLUE_CHROMA: [Component; 1] = [part(Cb, 0, 8)];
