// SPDX-License-Identifier: Apache-2.0
//! Checks that the files of a handle agree with its numbers.

use crate::handle::Handle;
use crate::metadata;
use anion_memory::Access;
use std::fmt;

/// `F_SEAL_SHRINK` and `F_SEAL_GROW` of `linux/fcntl.h`: the size is fixed.
const FIXED: i32 = 0x2 | 0x4;
/// `F_SEAL_WRITE` and `F_SEAL_FUTURE_WRITE`: no new mapping can be written to.
const NO_WRITES: i32 = 0x8 | 0x10;

/// Properties of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Bytes: the size of fstat(2); for a dma-buf, the end that lseek(2) finds.
    pub bytes: u64,
    /// Its kind.
    pub kind: Kind,
    /// Whether the descriptor was opened for writing, too.
    pub is_writable: bool,
}

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file that can be sealed, with its seals (`F_GET_SEALS` of fcntl(2)).
    Sealed(i32),
    /// A dma-buf: its size is fixed, and it has no seals.
    DmaBuf,
    /// Any other file. Its size may change at any time.
    Other,
}

/// A file of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first file, with the pixels.
    Buffer,
    /// The second file.
    Metadata,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Buffer => "buffer",
            Self::Metadata => "metadata",
        })
    }
}

/// Reason why a file does not belong to the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFile {
    /// The kind of the file does not show whether its size is fixed.
    #[error("the file of the {0} is neither a memfd nor a dma-buf")]
    Kind(Which),
    /// Its size can change, so that an access could fault.
    #[error("the file of the {which} has the seals {seals:#x}, but SHRINK and GROW must be among them")]
    Unsealed {
        /// The file.
        which: Which,
        /// Its seals.
        seals: i32,
    },
    /// It is too small.
    #[error("the file of the {which} has {bytes} bytes, but the handle needs {needed}")]
    Size {
        /// The file.
        which: Which,
        /// Its bytes.
        bytes: u64,
        /// The value of the handle.
        needed: u64,
    },
    /// The handle permits writing.
    #[error("the file of the {0} cannot be written to")]
    ReadOnly(Which),
}

impl Handle {
    /// Checks that both files have at least the sizes in the handle, that these cannot change, and
    /// that the files can be mapped with the handle's access. After a success, no access to
    /// [`Handle::size`] bytes of the buffer, or to the bytes of the metadata, is beyond the end of
    /// a file.
    ///
    /// # Errors
    /// If a file fails a check.
    pub fn check(&self, buffer: &File, metadata: &File) -> Result<(), BadFile> {
        buffer.check(Which::Buffer, self.size(), self.access())?;
        if metadata.kind == Kind::DmaBuf {
            return Err(BadFile::Kind(Which::Metadata));
        }
        metadata.check(Which::Metadata, metadata::size(self.request().reserved_size), Access::ReadWrite)
    }
}

impl File {
    fn check(&self, which: Which, needed: u64, access: Access) -> Result<(), BadFile> {
        let (is_fixed, seals) = match self.kind {
            Kind::Sealed(seals) => (seals & FIXED == FIXED, seals),
            Kind::DmaBuf => (true, 0),
            Kind::Other => return Err(BadFile::Kind(which)),
        };
        if !is_fixed {
            return Err(BadFile::Unsealed { which, seals });
        }
        if self.bytes < needed {
            return Err(BadFile::Size { which, bytes: self.bytes, needed });
        }
        if access == Access::ReadWrite && (!self.is_writable || seals & NO_WRITES != 0) {
            return Err(BadFile::ReadOnly(which));
        }
        Ok(())
    }
}
