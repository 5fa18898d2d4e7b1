// SPDX-License-Identifier: Apache-2.0
//! The fixture of every test: a mapper, buffers, and functions to call it.

use super::source::{Source, Wanted};
use super::sys::{Library, Mapper, Native, Pixels, Rect};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::Path;

/// Codes of `AIMapper_Error`.
pub(super) const BAD_BUFFER: i32 = 2;
pub(super) const BAD_VALUE: i32 = 3;
pub(super) const UNSUPPORTED: i32 = 7;

/// `CPU_READ_OFTEN` and `CPU_WRITE_OFTEN`.
pub(super) const READ: i64 = 0x3;
pub(super) const WRITE: i64 = 0x30;

/// Formats of `PixelFormat`.
pub(super) const RGBA_8888: i32 = 0x1;
pub(super) const YCRCB_420_SP: i32 = 0x11;
pub(super) const BLOB: i32 = 0x21;
pub(super) const YCBCR_420_888: i32 = 0x23;
pub(super) const RAW10: i32 = 0x25;
pub(super) const RAW12: i32 = 0x26;
pub(super) const YCBCR_P010: i32 = 0x36;
pub(super) const YCBCR_P210: i32 = 0x3c;
pub(super) const YV12: i32 = 0x3231_5659;

/// The result of a test that does not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    /// The allocator has no such buffers, which the interface permits.
    Unsupported(String),
}

/// A mapper, and the source of its buffers.
pub(crate) struct Suite {
    pub(super) library: Library,
    pub(super) mapper: Mapper,
    pub(super) source: Source,
    /// Number of forged handles.
    pub(super) rounds: usize,
}

/// An allocated buffer: its handle as received.
pub(super) struct Raw {
    pub(super) stride: i32,
    pub(super) native: Native,
}

/// An imported buffer, which is freed when this is dropped, if not before.
pub(super) struct Buffer<'a> {
    pub(super) address: usize,
    mapper: Mapper,
    bytes: usize,
    /// It lives as long as the buffer, like the raw handle of an allocator.
    _raw: Option<&'a Raw>,
}

impl Suite {
    /// Loads a mapper.
    ///
    /// # Errors
    /// If the library cannot be loaded, or is no mapper.
    pub(crate) fn new(library: &Path, source: Source, rounds: usize) -> Result<Self> {
        let library = Library::open(library)?;
        Ok(Self { library, mapper: library.load()?, source, rounds })
    }

    /// Allocates a buffer that may be unsupported.
    ///
    /// # Errors
    /// If the allocation of a supported buffer failed.
    pub(super) fn try_allocate(&self, wanted: &Wanted) -> Result<Option<Raw>> {
        let allocated = self.source.allocate(wanted)?;
        Ok(allocated.map(|(stride, native)| Raw { stride, native }))
    }

    /// Allocates a buffer that every allocator must support.
    ///
    /// # Errors
    /// If it is unsupported or the allocation failed.
    pub(super) fn allocate(&self, wanted: &Wanted) -> Result<Raw> {
        self.try_allocate(wanted)?.with_context(|| format!("{wanted:?} must be supported"))
    }

    /// Imports a buffer.
    ///
    /// # Errors
    /// If the mapper refuses it.
    pub(super) fn import<'a>(&self, raw: &'a Raw) -> Result<Buffer<'a>> {
        let address =
            self.mapper.import(&raw.native).map_err(|code| anyhow!("importBuffer returns {code}"))?;
        self.adopt(address, Some(raw))
    }

    /// Takes ownership of an imported handle.
    ///
    /// # Errors
    /// If the mapper does not report its size.
    pub(super) fn adopt<'a>(&self, address: usize, raw: Option<&'a Raw>) -> Result<Buffer<'a>> {
        let mut buffer = Buffer { address, mapper: self.mapper, bytes: 0, _raw: raw };
        buffer.bytes = usize::try_from(buffer.long(10)?).context("ALLOCATION_SIZE")?;
        Ok(buffer)
    }
}

impl Buffer<'_> {
    /// Locks the whole buffer, without a fence.
    pub(super) fn lock(&self, usage: i64) -> Result<Pixels, i32> {
        self.lock_region(usage, Rect::default())
    }

    pub(super) fn lock_region(&self, usage: i64, region: Rect) -> Result<Pixels, i32> {
        self.mapper.lock(self.address, usage, region, None, self.bytes)
    }

    /// Locks the whole buffer.
    ///
    /// # Errors
    /// The error of the mapper.
    pub(super) fn locked(&self, usage: i64) -> Result<Pixels> {
        self.lock(usage).map_err(|code| anyhow!("lock returns {code}"))
    }

    /// Unlocks it.
    ///
    /// # Errors
    /// The error of the mapper; also if it returns an invalid fence.
    pub(super) fn unlocked(&self) -> Result<()> {
        let fence = self.mapper.unlock(self.address).map_err(|code| anyhow!("unlock returns {code}"))?;
        ensure!(fence == -1, "the fence is {fence}, but it must be -1 without pending work");
        Ok(())
    }

    /// Returns the address, and leaves the buffer to be freed by the caller.
    pub(super) fn into_address(self) -> usize {
        let address = self.address;
        std::mem::forget(self);
        address
    }

    /// Frees it.
    ///
    /// # Errors
    /// The error of the mapper.
    pub(super) fn free(self) -> Result<()> {
        let mapper = self.mapper;
        let code = mapper.free(self.into_address());
        ensure!(code == 0, "freeBuffer returns {code}");
        Ok(())
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        self.mapper.free(self.address);
    }
}

/// Returns the usual request: 64 by 64 pixels that the CPU reads and writes often.
pub(super) fn wanted(format: i32) -> Wanted {
    Wanted {
        name: "VTS_TEMP".to_owned(),
        width: 64,
        height: 64,
        layers: 1,
        format,
        usage: READ | WRITE,
        reserved: 0,
    }
}

impl Buffer<'_> {
    /// Returns encoded metadata of a standard type, which the mapper must support. As clients do,
    /// passes a buffer of 512 bytes first.
    ///
    /// # Errors
    /// The error of the mapper.
    pub(super) fn encoded(&self, number: i64) -> Result<Vec<u8>> {
        self.get(number).map_err(|code| anyhow!("metadata of type {number}: the mapper returns {code}"))
    }

    /// Does as [`Buffer::encoded`], but returns the mapper's negative code on failure.
    pub(super) fn get(&self, number: i64) -> Result<Vec<u8>, i32> {
        let mut value = vec![0; 512];
        let length = self.mapper.get_standard(self.address, number, &mut value);
        let bytes = usize::try_from(length).map_err(|_| length)?;
        if bytes > value.len() {
            value.resize(bytes, 0);
            let again = self.mapper.get_standard(self.address, number, &mut value);
            if again != length {
                return Err(again);
            }
        }
        value.truncate(bytes);
        Ok(value)
    }
}
