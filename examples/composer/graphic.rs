// SPDX-License-Identifier: Apache-2.0
//! A graphic buffer that is known only by its metadata.

use super::decode::{Plane, Reader, planes};
use super::platform::{Mapper, Native, Pixels, Rect};
use anyhow::{Context, Result, anyhow, ensure};
use drm::buffer::DrmFourcc;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// The CPU reads and writes.
const CPU: i64 = 0x33;
/// Types of metadata.
const WIDTH: i64 = 3;
const HEIGHT: i64 = 4;
const PIXEL_FORMAT_FOURCC: i64 = 7;
const PIXEL_FORMAT_MODIFIER: i64 = 8;
const ALLOCATION_SIZE: i64 = 10;
const PLANE_LAYOUTS: i64 = 15;

/// A graphic buffer that this process has imported.
pub(super) struct Graphic {
    mapper: Mapper,
    address: usize,
    /// The received handle itself, which a consumer such as a graphics library gets.
    native: Native,
}

/// A buffer's metadata.
pub(super) struct Described {
    /// Columns and rows.
    pub(super) size: (u32, u32),
    /// A code of `drm_fourcc.h`.
    pub(super) fourcc: u32,
    pub(super) modifier: u64,
    /// Bytes of the whole buffer.
    pub(super) bytes: u64,
    pub(super) planes: Vec<Plane>,
}

impl Graphic {
    /// Imports a handle.
    ///
    /// # Errors
    /// The error code of the mapper.
    pub(super) fn import(mapper: Mapper, native: Native) -> Result<Self> {
        let address = mapper.import(&native).map_err(refused("importBuffer"))?;
        Ok(Self { mapper, address, native })
    }

    /// Returns the descriptor of its pixels: the first of the handle, which has all planes at their
    /// offsets.
    pub(super) fn pixels(&self) -> BorrowedFd<'_> {
        self.native.fds()[0].as_fd()
    }

    /// Reads all metadata that a device needs.
    ///
    /// # Errors
    /// If a value is missing or malformed.
    pub(super) fn describe(&self) -> Result<Described> {
        let number = |kind| self.value(kind, |reader| reader.long().map(i64::cast_unsigned));
        let fourcc = self.value(PIXEL_FORMAT_FOURCC, |reader| reader.word())?;
        Ok(Described {
            size: (u32::try_from(number(WIDTH)?)?, u32::try_from(number(HEIGHT)?)?),
            fourcc: fourcc.cast_unsigned(),
            modifier: number(PIXEL_FORMAT_MODIFIER)?,
            bytes: number(ALLOCATION_SIZE)?,
            planes: self.value(PLANE_LAYOUTS, planes)?,
        })
    }

    fn value<T>(&self, number: i64, read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
        let needed = self.mapper.get_standard(self.address, number, &mut []);
        let mut value = vec![0; usize::try_from(needed).map_err(|_| refused("getStandardMetadata")(needed))?];
        let length = self.mapper.get_standard(self.address, number, &mut value);
        ensure!(length == needed, "metadata of type {number} have {length} bytes, and had {needed}");
        let mut reader = Reader::new(&value, number)?;
        let decoded = read(&mut reader).with_context(|| format!("metadata of type {number}"))?;
        reader.end()?;
        Ok(decoded)
    }

    /// Locks the image for the CPU while `access` runs.
    ///
    /// # Errors
    /// The error code of the mapper, or the error of `access`.
    pub(super) fn locked(
        &self,
        described: &Described,
        access: impl FnOnce(Pixels) -> Result<()>,
    ) -> Result<()> {
        let bytes = usize::try_from(described.bytes)?;
        let pixels = self.mapper.lock(self.address, CPU, Rect::default(), None, bytes);
        let done = access(pixels.map_err(refused("lock"))?);
        self.mapper.unlock(self.address).map_err(refused("unlock"))?;
        done
    }

    /// Draws all samples of all planes, each with `bits` set.
    ///
    /// # Errors
    /// As [`Graphic::locked`].
    pub(super) fn draw(&self, described: &Described, bits: u8) -> Result<()> {
        self.locked(described, |pixels| {
            described.each_byte(|at, value, _| {
                pixels.set(at, value | bits);
                Ok(())
            })
        })
    }
}

impl Drop for Graphic {
    fn drop(&mut self) {
        // The mapper knows it: it was imported, and no other code frees it.
        self.mapper.free(self.address);
    }
}

impl Described {
    /// Compares the picture that was drawn with `bits`, in the first `colours` bytes of each
    /// sample, with the bytes that `read` returns.
    ///
    /// # Errors
    /// If a byte differs; the message names it. The error of `read`.
    pub(super) fn compare(&self, bits: u8, colours: usize, read: impl Fn(usize) -> Result<u8>) -> Result<()> {
        self.each_byte(|at, value, byte| {
            let (found, expected) = (read(at)?, value | bits);
            ensure!(byte >= colours || found == expected, "byte {at} is {found:#x}, expected {expected:#x}");
            Ok(())
        })
    }

    /// Calls `visit` for every byte of every sample, with its offset in the buffer, its value in
    /// the picture, and its index in the sample.
    fn each_byte(&self, mut visit: impl FnMut(usize, u8, usize) -> Result<()>) -> Result<()> {
        for (number, plane) in self.planes.iter().enumerate() {
            let [offset, stride, width, height, increment] =
                [plane.offset, plane.stride, plane.width, plane.height, plane.increment / 8]
                    .map(usize::try_from);
            let (offset, stride, sample) = (offset?, stride?, increment?);
            for (y, x) in (0..height?).flat_map(|y| (0..width.unwrap_or(0)).map(move |x| (y, x))) {
                for byte in 0..sample {
                    let value = (x + 3 * y + 7 * byte + 31 * number) & 0x7f;
                    visit(offset + y * stride + x * sample + byte, value.to_le_bytes()[0], byte)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        let format = DrmFourcc::try_from(self.fourcc)
            .map_or_else(|_| format!("{:#x}", self.fourcc), |code| code.to_string());
        write!(f, "{format}, {width}x{height}, modifier {:#x}, planes", self.modifier)?;
        self.planes.iter().try_for_each(|plane| write!(f, " {}+{}", plane.offset, plane.stride))
    }
}

fn refused(call: &str) -> impl Fn(i32) -> anyhow::Error + '_ {
    move |code| anyhow!("{call} returns {code}")
}
