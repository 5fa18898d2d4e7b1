// SPDX-License-Identifier: Apache-2.0
//! The contents of a handle.

use anion_layout::{Format, Image, Layout, Unsupported, Usage};
use anion_memory::{Access, BufferId};

/// Most images of a buffer.
pub const MAX_LAYERS: u32 = 2048;

/// The request for a buffer, with the values that the heap added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The requested format; [`Format::ImplementationDefined`] is not replaced.
    pub format: Format,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Images.
    pub layers: u32,
    /// Bits of Android's `BufferUsage`, as requested.
    pub usage: Usage,
    /// Alignment of rows in bytes, that of the heap: a power of two up to 4096.
    pub stride_align: u32,
    /// Bytes of the region that clients share, after the metadata.
    pub reserved_size: u64,
}

/// The description of a buffer in its handle. Its values are consistent: only [`Handle::new`]
/// creates one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    id: BufferId,
    request: Request,
    layout: Layout,
    size: u64,
    access: Access,
}

/// Reason why such a buffer is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The format has no layout of this size.
    #[error(transparent)]
    Layout(#[from] Unsupported),
    /// The number of images must be 1 to [`MAX_LAYERS`].
    #[error("layers are {0}, but they must be 1 to {MAX_LAYERS}")]
    Layers(u32),
    /// The images do not fit.
    #[error("size is {size} bytes, but the image's layers need {needed}")]
    Size {
        /// Bytes of the buffer.
        size: u64,
        /// Bytes of all layers.
        needed: u64,
    },
    /// The region exceeds the maximum, so that no process could map it.
    #[error("the reserved region has {0} bytes, but it must be at most {limit}", limit = crate::metadata::MAX_RESERVED)]
    Reserved(u64),
}

impl Request {
    /// Returns the positions of the planes in each image.
    ///
    /// # Errors
    /// As [`Image::layout`].
    pub fn layout(&self) -> Result<Layout, Unsupported> {
        let image = Image::new(self.format, self.width, self.height);
        image.usage(self.usage).stride_align(self.stride_align).layout()
    }

    /// Returns the layout with the bytes of all layers.
    ///
    /// # Errors
    /// If the format has no such layout, or `layers` or `reserved_size` is out of its range.
    pub fn needed(&self) -> Result<(Layout, u64), Invalid> {
        let layout = self.layout()?;
        if self.layers == 0 || self.layers > MAX_LAYERS {
            return Err(Invalid::Layers(self.layers));
        }
        if self.reserved_size > crate::metadata::MAX_RESERVED {
            return Err(Invalid::Reserved(self.reserved_size));
        }
        // An image has at most 2^33 bytes, and there are at most 2^11 images.
        Ok((layout, layout.bytes * u64::from(self.layers)))
    }
}

impl Handle {
    /// Returns the handle of a buffer of `size` bytes, whose descriptor permits `access`.
    ///
    /// # Errors
    /// As [`Request::needed`]; also if `size` is less than all layers need.
    pub fn new(id: BufferId, request: Request, size: u64, access: Access) -> Result<Self, Invalid> {
        let (layout, needed) = request.needed()?;
        if size < needed {
            return Err(Invalid::Size { size, needed });
        }
        Ok(Self { id, request, layout, size, access })
    }

    /// Returns the buffer's id.
    pub fn id(&self) -> BufferId {
        self.id
    }

    /// Returns the request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Returns the positions of the planes in the first image.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the bytes of the buffer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the access that its descriptor permits.
    pub fn access(&self) -> Access {
        self.access
    }
}
