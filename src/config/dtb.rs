// SPDX-License-Identifier: Apache-2.0
//! Reads a flattened device tree, the blob that boot loaders, kernels and `dtc` exchange
//! (Devicetree Specification, chapter 5).
//!
//! This is own code because the maintained library, `dtoolkit`, enforces the specification's limit
//! of 31 bytes for names; `dtc` and Linux do not, and the blobs of shipping phones have longer
//! ones. The tests compare this reader with `dtoolkit` on blobs that both accept.

use super::tree::{Property, Tree, TreeLimit, Value};

/// First bytes of every blob.
pub(super) const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();

const HEADER_BYTES: usize = 40;
/// Since version 16, blobs have the sizes of both blocks and the structure that this reader
/// expects.
const OLDEST_VERSION: u32 = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Longest name, with its NUL; those of real boards stay below 80.
const MAX_NAME: usize = 1024;

/// A blob that is damaged or not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// A field of the header points outside the blob.
    #[error("header field {field} is {value:#x}, but the blob has {len:#x} bytes")]
    Header {
        /// Name in the specification.
        field: &'static str,
        /// Its value.
        value: u32,
        /// Number of bytes of the blob.
        len: usize,
    },
    /// The blob has an unsupported version.
    #[error("last_comp_version is {0}, but only 16 and 17 are known")]
    Version(u32),
    /// The structure block ends inside an element.
    #[error("the structure block ends at byte {0:#x} in the middle of an item")]
    Truncated(usize),
    /// The structure block has an unexpected token.
    #[error("unexpected token {token:#x} at byte {offset:#x} of the structure block")]
    Token {
        /// The token.
        token: u32,
        /// Its offset in the structure block.
        offset: usize,
    },
    /// A name is not text or lies outside its block.
    #[error("the name at byte {0:#x} of the structure block is not a NUL-terminated ASCII string")]
    Name(usize),
    /// Bigger than any real tree.
    #[error(transparent)]
    Limit(#[from] TreeLimit),
}

/// Reads `blob`.
///
/// # Errors
/// If it is damaged, of an unsupported version, or exceeds the limits of a tree.
pub(super) fn read(blob: &[u8]) -> Result<Tree, BlobError> {
    let (structure, strings) = blocks(blob)?;
    let mut tokens = Tokens { block: structure, at: 0 };
    let mut tree = Tree::new();
    let mut open = Vec::new();
    loop {
        let offset = tokens.at;
        let token = tokens.number()?;
        match (token, open.last().copied()) {
            (NOP, _) => {}
            (BEGIN_NODE, parent) => {
                let name = tokens.name()?;
                open.push(match parent {
                    Some(parent) => tree.child(parent, name, None)?,
                    None if offset == tokens.start() => tree.root(),
                    None => return Err(BlobError::Token { token, offset }),
                });
            }
            (PROP, Some(node)) => {
                let len = tokens.number()? as usize;
                let name_at = tokens.number()? as usize;
                let name = text(strings.get(name_at..)).ok_or(BlobError::Name(offset))?;
                let value = Value::Bytes(tokens.bytes(len)?.to_vec());
                tree.set(node, name, Property { value, position: None })?;
            }
            (END_NODE, Some(_)) => {
                open.pop();
            }
            (END, None) if offset != tokens.start() => break,
            _ => return Err(BlobError::Token { token, offset }),
        }
    }
    tree.index_phandles();
    Ok(tree)
}

/// Returns the structure block and the strings block.
fn blocks(blob: &[u8]) -> Result<(&[u8], &[u8]), BlobError> {
    let field = |at: usize, name| {
        let bytes = blob.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let len = blob.len();
        bytes.map(u32::from_be_bytes).ok_or(BlobError::Header { field: name, value: 0, len })
    };
    let total = field(4, "totalsize")?;
    let last_compatible = field(24, "last_comp_version")?;
    if !(OLDEST_VERSION..=OLDEST_VERSION + 1).contains(&last_compatible) {
        return Err(BlobError::Version(last_compatible));
    }
    let blob_part = blob.get(..total as usize).filter(|part| part.len() >= HEADER_BYTES);
    let blob_part =
        blob_part.ok_or(BlobError::Header { field: "totalsize", value: total, len: blob.len() })?;
    let block = |start: u32, size: u32, name| {
        let rest = blob_part.get(start as usize..);
        rest.and_then(|rest| rest.get(..size as usize)).ok_or(BlobError::Header {
            field: name,
            value: start,
            len: blob_part.len(),
        })
    };
    let strings = block(field(12, "off_dt_strings")?, field(32, "size_dt_strings")?, "off_dt_strings")?;
    // Version 17 added size_dt_struct; before, the block ends with its END token.
    let start = field(8, "off_dt_struct")?;
    let size = match field(20, "version")? {
        OLDEST_VERSION => total.saturating_sub(start),
        _ => field(36, "size_dt_struct")?,
    };
    Ok((block(start, size, "off_dt_struct")?, strings))
}

/// The structure block, read from its beginning to its end.
struct Tokens<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Tokens<'b> {
    /// Returns the offset of the first token that is not a NOP.
    fn start(&self) -> usize {
        let words = self.block.chunks_exact(4).take_while(|word| *word == NOP.to_be_bytes());
        4 * words.count()
    }

    fn number(&mut self) -> Result<u32, BlobError> {
        let at = self.at;
        let bytes = self.bytes(4)?;
        bytes.try_into().map(u32::from_be_bytes).map_err(|_| BlobError::Truncated(at))
    }

    /// Returns the next `len` bytes, and skips to the next multiple of 4.
    fn bytes(&mut self, len: usize) -> Result<&'b [u8], BlobError> {
        let bytes = self.block.get(self.at..).and_then(|rest| rest.get(..len));
        let bytes = bytes.ok_or(BlobError::Truncated(self.block.len()))?;
        self.at = (self.at + len).next_multiple_of(4);
        Ok(bytes)
    }

    fn name(&mut self) -> Result<&'b str, BlobError> {
        let name = text(self.block.get(self.at..)).ok_or(BlobError::Name(self.at))?;
        self.bytes(name.len() + 1)?;
        Ok(name)
    }
}

/// Returns the NUL-terminated ASCII string at the beginning; `None` if it has characters that could
/// confuse a path or a terminal.
fn text(bytes: Option<&[u8]>) -> Option<&str> {
    // Bounded, so that in a block without NULs not every property causes a search to the end.
    let bytes = bytes.map(|bytes| &bytes[..bytes.len().min(MAX_NAME)])?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = str::from_utf8(&bytes[..end]).ok()?;
    name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/').then_some(name)
}
