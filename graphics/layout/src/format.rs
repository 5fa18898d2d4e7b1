// SPDX-License-Identifier: Apache-2.0
//! Pixel formats.

use core::fmt;
use core::str::FromStr;

/// A format of Android's `PixelFormat` that has a linear layout here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Red, green, blue, alpha, one byte each.
    Rgba8888,
    /// The same with an unused byte instead of alpha.
    Rgbx8888,
    /// Red, green, blue, one byte each.
    Rgb888,
    /// 5 bits of red, 6 of green, 5 of blue, with red in the highest bits.
    Rgb565,
    /// Blue, green, red, alpha, one byte each.
    Bgra8888,
    /// Luma; interleaved chroma blue and red, for two pixels of one row.
    Ycbcr422Sp,
    /// Luma; interleaved chroma red and blue, for two by two pixels.
    Ycrcb420Sp,
    /// Red, green, blue, alpha, one 16-bit floating point number each.
    RgbaFp16,
    /// Data of a sensor, 16 bits per pixel.
    Raw16,
    /// Bytes of any meaning.
    Blob,
    /// The format that the usage selects.
    ImplementationDefined,
    /// Luma; interleaved chroma blue and red, for two by two pixels: the layout of NV12.
    Ycbcr420_888,
    /// Data of a sensor, four pixels in five bytes.
    Raw10,
    /// Data of a sensor, two pixels in three bytes.
    Raw12,
    /// 10 bits each of red, green and blue, 2 of alpha, with red in the lowest bits.
    Rgba1010102,
    /// As `Ycbcr420_888`, with 10 bits in the upper part of 16.
    YcbcrP010,
    /// A byte of red.
    R8,
    /// As `YcbcrP010`, with chroma for two pixels of one row.
    YcbcrP210,
    /// A byte of luma.
    Y8,
    /// 16 bits of luma.
    Y16,
    /// Luma; chroma red; chroma blue, for two by two pixels each.
    Yv12,
}

/// Every format: its value, its name in `PixelFormat.aidl`, and its other name.
const FORMATS: [(Format, i32, &str, Option<&str>); 21] = [
    (Format::Rgba8888, 0x1, "RGBA_8888", None),
    (Format::Rgbx8888, 0x2, "RGBX_8888", None),
    (Format::Rgb888, 0x3, "RGB_888", None),
    (Format::Rgb565, 0x4, "RGB_565", None),
    (Format::Bgra8888, 0x5, "BGRA_8888", None),
    (Format::Ycbcr422Sp, 0x10, "YCBCR_422_SP", Some("NV16")),
    (Format::Ycrcb420Sp, 0x11, "YCRCB_420_SP", Some("NV21")),
    (Format::RgbaFp16, 0x16, "RGBA_FP16", None),
    (Format::Raw16, 0x20, "RAW16", None),
    (Format::Blob, 0x21, "BLOB", None),
    (Format::ImplementationDefined, 0x22, "IMPLEMENTATION_DEFINED", None),
    (Format::Ycbcr420_888, 0x23, "YCBCR_420_888", Some("NV12")),
    (Format::Raw10, 0x25, "RAW10", None),
    (Format::Raw12, 0x26, "RAW12", None),
    (Format::Rgba1010102, 0x2b, "RGBA_1010102", None),
    (Format::YcbcrP010, 0x36, "YCBCR_P010", Some("P010")),
    (Format::R8, 0x38, "R_8", None),
    (Format::YcbcrP210, 0x3c, "YCBCR_P210", Some("P210")),
    (Format::Y8, 0x2020_3859, "Y8", None),
    (Format::Y16, 0x2036_3159, "Y16", None),
    (Format::Yv12, 0x3231_5659, "YV12", None),
];

impl Format {
    /// Returns all formats, by ascending value.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMATS.iter().map(|(format, ..)| *format)
    }

    /// Returns the format with this value of `PixelFormat`; `None` if it has no layout here.
    pub fn from_value(value: i32) -> Option<Self> {
        FORMATS.iter().find(|(_, own, ..)| *own == value).map(|(format, ..)| *format)
    }

    /// Returns its value of `PixelFormat`.
    pub fn value(self) -> i32 {
        self.entry().1
    }

    /// Returns its name in `PixelFormat.aidl`.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// Returns every name that [`Format::from_str`] accepts for it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let (.., name, other) = *self.entry();
        other.into_iter().chain([name])
    }

    fn entry(self) -> &'static (Self, i32, &'static str, Option<&'static str>) {
        // Every format is in the list: a test checks this.
        FORMATS.iter().find(|(format, ..)| *format == self).unwrap_or(&FORMATS[0])
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no name of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a pixel format with a layout here")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Parses a name of `PixelFormat.aidl`, `NV12`, `NV16`, `NV21`, `P010` or `P210`, in upper or
    /// lower case.
    ///
    /// # Errors
    /// If it is no such name.
    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let is_called = |own: &str| own.eq_ignore_ascii_case(name);
        let found = FORMATS.iter().find(|(.., own, other)| is_called(own) || other.is_some_and(is_called));
        found.map(|(format, ..)| *format).ok_or(UnknownFormat)
    }
}

/// A code of `drm_fourcc.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fourcc(pub u32);

impl Fourcc {
    pub(crate) const fn new(code: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(code))
    }
}

impl fmt::Display for Fourcc {
    /// Writes its four characters; `none` for `DRM_FORMAT_INVALID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0.to_le_bytes();
        match core::str::from_utf8(&code) {
            Ok(_) if self.0 == 0 => f.pad("none"),
            Ok(code) => f.pad(code),
            Err(_) => f.pad("????"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_names_lead_to_their_format() {
        for format in Format::all() {
            assert_eq!(Format::from_value(format.value()), Some(format));
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(format.entry().0, format);
        }
        assert_eq!("nv12".parse(), Ok(Format::Ycbcr420_888));
        assert_eq!("P210".parse(), Ok(Format::YcbcrP210));
        assert_eq!("".parse::<Format>(), Err(UnknownFormat));
        assert_eq!("NV13".parse::<Format>(), Err(UnknownFormat));
        for value in [0, -1, 0x14, 0x24, 0x30, 0x35, 0x37, 0x39, 0x100, 0x1ff, i32::MIN, i32::MAX] {
            assert_eq!(Format::from_value(value), None, "{value:#x}");
        }
    }

    #[test]
    fn a_code_is_shown_as_its_characters() {
        extern crate std;
        use std::string::ToString;

        assert_eq!(Fourcc::new(*b"NV12").0, 0x3231_564e);
        assert_eq!(Fourcc::new(*b"R8  ").to_string(), "R8  ");
        assert_eq!(Fourcc(u32::MAX).to_string(), "????");
    }
}
