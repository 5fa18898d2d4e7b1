// SPDX-License-Identifier: Apache-2.0
//! Content of a handle.

use anion_layout::{Format, Image, Layout, Unsupported, Usage};
use anion_memory::{Access, BufferId};

/// Images of a buffer, one after the other.
pub const MAX_LAYERS: u32 = 2048;

/// The request of a buffer, with the values that the heap added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The format as requested: [`Format::ImplementationDefined`] stays that.
    pub format: Format,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Images.
    pub layers: u32,
    /// Bits of Android's `BufferUsage`, as requested.
    pub usage: Usage,
    /// Bytes that rows begin at a multiple of: a power of two up to 4096, of the heap.
    pub stride_align: u32,
    /// Bytes of the region that clients share beside the metadata.
    pub reserved_size: u64,
}

/// A buffer as its handle describes it. All of it fits together: [`Handle::new`] is the only way to
/// make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    id: BufferId,
    request: Request,
    layout: Layout,
    size: u64,
    access: Access,
}

/// Reason why there can be no such buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The format has no layout of this size.
    #[error(transparent)]
    Layout(#[from] Unsupported),
    /// There must be an image, and no more than [`MAX_LAYERS`].
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
    /// No process could map it.
    #[error("the reserved region has {0} bytes, but it must be at most {limit}", limit = crate::metadata::MAX_RESERVED)]
    Reserved(u64),
}

impl Request {
    /// Returns where the planes of each image are.
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
        // At most 2^33 bytes of an image and 2^11 images.
        Ok((layout, layout.bytes * u64::from(self.layers)))
    }
}

impl Handle {
    /// Returns the handle of a buffer of `size` bytes, whose descriptor has this access.
    ///
    /// # Errors
    /// As [`Request::needed`]; if `size` is less than all layers take.
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

    /// Returns what it was asked for as.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Returns where the planes of the first image are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the bytes of the buffer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns what its descriptor permits.
    pub fn access(&self) -> Access {
        self.access
    }
}
