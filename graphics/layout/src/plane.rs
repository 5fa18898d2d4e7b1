// SPDX-License-Identifier: Apache-2.0
//! Planes and their components.

/// A plane of an image, as in Android's `PlaneLayout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Bytes from the start of the buffer to its first sample.
    pub offset: u64,
    /// Bits from a sample to the next in its row; 0 if samples do not begin at whole bytes.
    pub sample_increment: u32,
    /// Bytes from a row to the next.
    pub stride: u64,
    /// Samples of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes of all rows with their padding.
    pub bytes: u64,
    /// Pixels of a row that share a sample.
    pub horizontal_subsampling: u32,
    /// Rows of pixels that share a sample.
    pub vertical_subsampling: u32,
    pub(crate) components: &'static [Component],
}

impl Plane {
    /// Returns the components of a sample, in the order of the format's name.
    pub fn components(&self) -> &'static [Component] {
        self.components
    }
}

/// A part of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Its meaning.
    pub kind: ComponentKind,
    /// Bits from the start of the sample.
    pub offset: u32,
    /// Bits; `None` if the size of samples varies.
    pub size: Option<u32>,
}

/// Meaning of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentKind {
    /// Luma.
    Y,
    /// Chroma, blue.
    Cb,
    /// Chroma, red.
    Cr,
    /// Red.
    R,
    /// Green.
    G,
    /// Blue.
    B,
    /// Data of a sensor.
    Raw,
    /// Alpha.
    A,
}

impl ComponentKind {
    /// Returns its value of Android's `PlaneLayoutComponentType`.
    pub fn value(self) -> i64 {
        match self {
            Self::Y => 1,
            Self::Cb => 1 << 1,
            Self::Cr => 1 << 2,
            Self::R => 1 << 10,
            Self::G => 1 << 11,
            Self::B => 1 << 12,
            Self::Raw => 1 << 20,
            Self::A => 1 << 30,
        }
    }

    /// Returns its name in `PlaneLayoutComponentType.aidl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Y => "Y",
            Self::Cb => "CB",
            Self::Cr => "CR",
            Self::R => "R",
            Self::G => "G",
            Self::B => "B",
            Self::Raw => "RAW",
            Self::A => "A",
        }
    }
}
