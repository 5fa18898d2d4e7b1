// SPDX-License-Identifier: Apache-2.0
//! Encodes metadata: a header with the type, then the value. Numbers are little endian, without
//! padding.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::standard::{self, Standard};
use anion_handle::metadata::{BLEND_MODE, CTA861_3, DATASPACE, SMPTE2086, SMPTE2094_10, SMPTE2094_40};
use anion_layout::{ComponentKind, LINEAR, Plane, Usage};

/// Prefix of the names of Android's enumerations.
const PACKAGE: &str = "android.hardware.graphics.common.";
/// `ChromaSiting` of formats with chroma: the producer of the image selects it.
const SITING_UNKNOWN: i64 = 1;
/// `NONE` of `Compression`, `Interlaced` and `ChromaSiting`.
const NONE: i64 = 0;

/// A value that is being written.
pub(crate) struct Encoded(Vec<u8>);

impl Encoded {
    /// Begins a value with the header of its type.
    pub(crate) fn new(standard: Standard) -> Self {
        let mut encoded = Self(Vec::with_capacity(128));
        encoded.bytes(standard::NAME.as_bytes());
        encoded.number(standard.number().to_le_bytes());
        encoded
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend(bytes);
    }

    /// Writes a length, which fits: no value is longer than a page.
    fn length(&mut self, length: usize) {
        self.number(i64::try_from(length).unwrap_or_default().to_le_bytes());
    }

    /// Writes bytes after their length.
    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend(bytes);
    }

    /// Writes a value of an enumeration that vendors may extend.
    fn extendable(&mut self, name: &str, value: i64) {
        self.length(PACKAGE.len() + name.len());
        self.0.extend(PACKAGE.as_bytes());
        self.0.extend(name.as_bytes());
        self.number(value.to_le_bytes());
    }

    fn plane(&mut self, plane: &Plane) {
        self.length(plane.components().len());
        for component in plane.components() {
            self.extendable("PlaneLayoutComponentType", component.kind.value());
            self.number(i64::from(component.offset).to_le_bytes());
            self.number(component.size.map_or(-1, i64::from).to_le_bytes());
        }
        let numbers = [
            plane.offset,
            u64::from(plane.sample_increment),
            plane.stride,
            u64::from(plane.width),
            u64::from(plane.height),
            plane.bytes,
            u64::from(plane.horizontal_subsampling),
            u64::from(plane.vertical_subsampling),
        ];
        for number in numbers {
            self.number(number.to_le_bytes());
        }
    }
}

/// Returns the encoded metadata of a buffer; empty if they are unset.
///
/// # Errors
/// None for an imported buffer.
pub(crate) fn encode(buffer: &Buffer, standard: Standard) -> Result<Vec<u8>, Error> {
    let (request, layout) = (buffer.handle.request(), buffer.handle.layout());
    let mut out = Encoded::new(standard);
    match standard {
        Standard::BufferId => out.number(buffer.handle.id().0.to_le_bytes()),
        Standard::Name => out.bytes(&buffer.page.name()?),
        Standard::Width => out.number(u64::from(request.width).to_le_bytes()),
        Standard::Height => out.number(u64::from(request.height).to_le_bytes()),
        Standard::LayerCount => out.number(u64::from(request.layers).to_le_bytes()),
        Standard::PixelFormatRequested => out.number(request.format.value().to_le_bytes()),
        Standard::PixelFormatFourcc => out.number(layout.fourcc.0.to_le_bytes()),
        Standard::PixelFormatModifier => out.number(LINEAR.to_le_bytes()),
        Standard::Usage => out.number(request.usage.0.to_le_bytes()),
        Standard::AllocationSize => out.number(buffer.handle.size().to_le_bytes()),
        Standard::ProtectedContent => {
            out.number(u64::from(request.usage.has(Usage::PROTECTED)).to_le_bytes());
        }
        Standard::Compression => out.extendable("Compression", NONE),
        Standard::Interlaced => out.extendable("Interlaced", NONE),
        Standard::ChromaSiting => out.extendable("ChromaSiting", chroma_siting(layout.planes())),
        Standard::PlaneLayouts => {
            out.length(layout.planes().len());
            layout.planes().iter().for_each(|plane| out.plane(plane));
        }
        Standard::Crop => {
            out.length(layout.planes().len());
            for side in layout.planes().iter().flat_map(|plane| [0, 0, plane.width, plane.height]) {
                out.number(side.to_le_bytes());
            }
        }
        Standard::Dataspace => out.number(buffer.page.number(DATASPACE)?.to_le_bytes()),
        Standard::BlendMode => out.number(buffer.page.number(BLEND_MODE)?.to_le_bytes()),
        Standard::Smpte2086 | Standard::Cta861_3 => {
            let place = if standard == Standard::Smpte2086 { SMPTE2086 } else { CTA861_3 };
            let Some(value) = buffer.page.optional(place)? else { return Ok(Vec::new()) };
            out.0.extend(value);
        }
        Standard::Smpte2094_40 | Standard::Smpte2094_10 => {
            let place = if standard == Standard::Smpte2094_40 { SMPTE2094_40 } else { SMPTE2094_10 };
            let Some(value) = buffer.page.bounded(place)? else { return Ok(Vec::new()) };
            out.bytes(&value);
        }
        Standard::Stride => out.number(layout.stride.to_le_bytes()),
    }
    Ok(out.0)
}

fn chroma_siting(planes: &[Plane]) -> i64 {
    let is_chroma = |kind| matches!(kind, ComponentKind::Cb | ComponentKind::Cr);
    let has_chroma = planes.iter().flat_map(Plane::components).any(|component| is_chroma(component.kind));
    if has_chroma { SITING_UNKNOWN } else { NONE }
}
