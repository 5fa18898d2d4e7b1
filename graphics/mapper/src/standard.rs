// SPDX-License-Identifier: Apache-2.0
//! The types of metadata: all of Android's `StandardMetadataType`, and no others.

/// Names of the types in the header of an encoded value.
pub(crate) const NAME: &str = "android.hardware.graphics.common.StandardMetadataType";

/// Defines the types, numbered from 1 in this order, and the list of all of them.
macro_rules! standard {
    ($first:ident $($next:ident)+) => {
        /// A type of metadata, with its number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i64)]
        pub(crate) enum Standard {
            $first = 1,
            $($next),+
        }

        use Standard::*;

        /// All of them, by ascending number.
        pub(crate) const ALL: [Standard; 23] = [$first, $($next),+];
    };
}

standard! {
    BufferId
    Name
    Width
    Height
    LayerCount
    PixelFormatRequested
    PixelFormatFourcc
    PixelFormatModifier
    Usage
    AllocationSize
    ProtectedContent
    Compression
    Interlaced
    ChromaSiting
    PlaneLayouts
    Crop
    Dataspace
    BlendMode
    Smpte2086
    Cta861_3
    Smpte2094_40
    Smpte2094_10
    Stride
}

impl Standard {
    /// Returns its number.
    pub(crate) const fn number(self) -> i64 {
        self as i64
    }

    /// Returns the type with this number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        ALL.into_iter().find(|standard| standard.number() == number)
    }

    /// Returns whether clients may change it.
    pub(crate) const fn is_settable(self) -> bool {
        matches!(self, Dataspace | BlendMode | Smpte2086 | Cta861_3 | Smpte2094_40 | Smpte2094_10)
    }

    /// Returns whether the buffer's request fixes it.
    pub(crate) const fn is_requested(self) -> bool {
        matches!(self, BufferId | Name | Width | Height | LayerCount | PixelFormatRequested | Usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_interface() {
        let numbers = ALL.map(Standard::number);
        assert_eq!(numbers.to_vec(), (1..=23).collect::<Vec<i64>>());
        assert_eq!(Standard::from_number(23), Some(Stride));
        for unknown in [0, 24, -1, i64::MAX] {
            assert_eq!(Standard::from_number(unknown), None);
        }
        let settable: Vec<i64> =
            ALL.iter().filter(|standard| standard.is_settable()).map(|standard| standard.number()).collect();
        assert_eq!(settable, [17, 18, 19, 20, 21, 22]);
    }
}
