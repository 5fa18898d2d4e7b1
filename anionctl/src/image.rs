// SPDX-License-Identifier: Apache-2.0
//! Images: the format, width and height options of `alloc` and `explain`.

use crate::args::RequestArgs;
use crate::failure::Failure;
use crate::table::{Side, Table};
use anion_ipc::Strong;
use anion_layout::{Format, Image, LINEAR, Layout, Plane};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// An image, as the alternative to a size.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Pixel format of the image that a buffer is for, such as NV12 or RGBA_8888; with --width and
    /// --height
    #[arg(
        long,
        value_name = "FORMAT",
        ignore_case = true,
        requires_all = ["width", "height"],
        conflicts_with = "size",
        value_parser = formats()
    )]
    format: Option<Format>,

    /// Pixels of a row
    #[arg(long, value_name = "PIXELS", requires = "format", conflicts_with = "size")]
    width: Option<u32>,

    /// Rows of pixels
    #[arg(long, value_name = "PIXELS", requires = "format", conflicts_with = "size")]
    height: Option<u32>,

    /// Alignment of every row in bytes: a power of two up to 4096 [default: the largest of the
    /// heaps that may serve the request]
    #[arg(long, value_name = "BYTES", requires = "format", conflicts_with = "size")]
    stride_align: Option<u32>,
}

fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::all().flat_map(Format::names)).try_map(|name| name.parse())
}

/// An image and the places of its planes in each buffer.
#[derive(Debug, Serialize)]
pub(crate) struct ImageRow {
    format: &'static str,
    fourcc: u32,
    modifier: u64,
    width: u32,
    height: u32,
    /// Pixels; absent for formats whose pixels are not whole bytes.
    stride: u32,
    bytes: u64,
    planes: Vec<PlaneRow>,
}

#[derive(Debug, Serialize)]
struct PlaneRow {
    components: String,
    offset: u64,
    stride: u64,
    width: u32,
    height: u32,
    bytes: u64,
}

impl ImageArgs {
    /// Returns the image; `None` if the request has a size. If no alignment is given, reads the
    /// alignments of the heaps of `request`.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the image has no layout; an error of the call if the service does not
    /// answer.
    pub(crate) fn image(
        &self,
        request: &RequestArgs,
        service: &Strong<dyn IHeapAllocator>,
    ) -> Result<Option<ImageRow>, Failure> {
        let (Some(format), Some(width), Some(height)) = (self.format, self.width, self.height) else {
            return Ok(None);
        };
        let stride_align = match self.stride_align {
            Some(bytes) => bytes,
            None => request.stride_align(service.listHeaps()?),
        };
        let image = Image::new(format, width, height).stride_align(stride_align);
        let layout = image.layout().map_err(|why| Failure::Usage(why.to_string()))?;
        Ok(Some(ImageRow::new(&layout, width, height)))
    }
}

impl ImageRow {
    fn new(layout: &Layout, width: u32, height: u32) -> Self {
        Self {
            format: layout.format.name(),
            fourcc: layout.fourcc.0,
            modifier: LINEAR,
            width,
            height,
            stride: layout.stride,
            bytes: layout.bytes,
            planes: layout.planes().iter().map(PlaneRow::new).collect(),
        }
    }

    /// Returns the bytes of a buffer for it.
    pub(crate) fn bytes(&self) -> i64 {
        i64::try_from(self.bytes).unwrap_or(i64::MAX)
    }

    /// Returns the image as lines of text.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("PLANE", Side::Right, 0),
            ("COMPONENTS", Side::Left, 0),
            ("OFFSET", Side::Right, 1),
            ("STRIDE", Side::Right, 1),
            ("WIDTH", Side::Right, 2),
            ("HEIGHT", Side::Right, 2),
            ("BYTES", Side::Right, 0),
        ]);
        for (index, plane) in self.planes.iter().enumerate() {
            let numbers = [plane.offset, plane.stride, plane.width.into(), plane.height.into(), plane.bytes];
            let cells = [index.to_string(), plane.components.clone()];
            table.add_row(cells.into_iter().chain(numbers.map(|number| number.to_string())));
        }
        format!(
            "{}, {} x {} pixels, fourcc {} ({:#010x}), modifier {:#x}\n{}",
            self.format,
            self.width,
            self.height,
            anion_layout::Fourcc(self.fourcc),
            self.fourcc,
            self.modifier,
            table.text(width)
        )
    }
}

impl PlaneRow {
    fn new(plane: &Plane) -> Self {
        let components: Vec<&str> = plane.components().iter().map(|part| part.kind.name()).collect();
        Self {
            components: components.join(" "),
            offset: plane.offset,
            stride: plane.stride,
            width: plane.width,
            height: plane.height,
            bytes: plane.bytes,
        }
    }
}
