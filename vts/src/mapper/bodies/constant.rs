// SPDX-License-Identifier: Apache-2.0
//! Tests metadata that the request determines.

use super::{Outcome, bodies, check_eq};
use crate::mapper::source::Wanted;
use crate::mapper::suite::{BAD_BUFFER, Buffer, RGBA_8888, Suite, YV12, wanted};
use anyhow::{Context, Result, ensure};

bodies! {
    "GetBufferId" buffers_have_different_ids,
    "GetName" name,
    "GetWidthHeight" width_and_height,
    "GetLayerCount" layer_count,
    "GetPixelFormatRequested" format_as_requested,
    "GetPixelFormatFourCC" fourcc,
    "GetPixelFormatModifier" modifier,
    "GetUsage" usage,
    "GetUsage64" usage_beyond_32_bits,
    "GetAllocationSize" allocation_size,
    "GetProtectedContent" protected_content,
    "GetCompression" compression,
    "GetInterlaced" interlaced,
    "GetChromaSiting" chroma_siting,
    "GetPlaneLayouts" plane_layouts,
    "GetCrop" crop,
    "GetStride" stride,
}

/// Runs a check with an imported buffer, and reads the metadata of null.
fn with(
    suite: &Suite,
    wanted: &Wanted,
    number: i64,
    check: impl FnOnce(&Buffer<'_>) -> Result<()>,
) -> Result<Outcome> {
    let raw = suite.allocate(wanted)?;
    let buffer = suite.import(&raw)?;
    check(&buffer)?;
    check_eq!(suite.mapper.get_standard(0, number, &mut [0; 512]), -BAD_BUFFER, "null");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn buffers_have_different_ids(suite: &Suite) -> Result<Outcome> {
    let one = suite.allocate(&wanted(RGBA_8888))?;
    let one = suite.import(&one)?;
    let two = suite.allocate(&wanted(RGBA_8888))?;
    let two = suite.import(&two)?;
    ensure!(one.long(1)? != two.long(1)?, "both have the id {}", one.long(1)?);
    one.free()?;
    two.free()?;
    with(suite, &wanted(RGBA_8888), 1, |_| Ok(()))
}

fn name(suite: &Suite) -> Result<Outcome> {
    let mut named = wanted(RGBA_8888);
    for name in ["Hello, World!", ""] {
        named.name = name.to_owned();
        with(suite, &named, 2, |buffer| {
            check_eq!(buffer.text(2)?, name, "NAME");
            Ok(())
        })?;
    }
    Ok(Outcome::Passed)
}

fn width_and_height(suite: &Suite) -> Result<Outcome> {
    let mut tall = wanted(RGBA_8888);
    tall.height = 128;
    with(suite, &tall, 3, |buffer| {
        check_eq!((buffer.long(3)?, buffer.long(4)?), (64, 128), "WIDTH and HEIGHT");
        Ok(())
    })
}

fn layer_count(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 5, |buffer| {
        check_eq!(buffer.long(5)?, 1, "LAYER_COUNT");
        Ok(())
    })
}

fn format_as_requested(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 6, |buffer| {
        check_eq!(buffer.word(6)?, RGBA_8888, "PIXEL_FORMAT_REQUESTED");
        Ok(())
    })
}

fn fourcc(suite: &Suite) -> Result<Outcome> {
    for (format, code) in [(RGBA_8888, *b"AB24"), (YV12, *b"YV12")] {
        let mut tall = wanted(format);
        tall.height = 128;
        with(suite, &tall, 7, |buffer| {
            check_eq!(buffer.word(7)?.to_le_bytes(), code, "PIXEL_FORMAT_FOURCC");
            Ok(())
        })?;
    }
    Ok(Outcome::Passed)
}

fn modifier(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 8, |buffer| {
        check_eq!(buffer.long(8)?, 0, "PIXEL_FORMAT_MODIFIER of linear buffers");
        Ok(())
    })
}

fn usage(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 9, |buffer| {
        check_eq!(buffer.long(9)?, 0x33, "USAGE");
        Ok(())
    })
}

fn usage_beyond_32_bits(suite: &Suite) -> Result<Outcome> {
    let mut front = wanted(RGBA_8888);
    front.usage = 1 << 32 | 0x200 | 0x800 | 0x100;
    let Some(raw) = suite.try_allocate(&front)? else {
        return Ok(Outcome::Unsupported(
            "the allocator has no front buffers for displays and GPUs".to_owned(),
        ));
    };
    let buffer = suite.import(&raw)?;
    check_eq!(buffer.long(9)?, front.usage, "USAGE");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn allocation_size(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let (size, least) = (buffer.long(10)?, i64::from(raw.stride) * 64 * 4);
    ensure!((least..2 * least).contains(&size), "ALLOCATION_SIZE is {size}, but the image has {least} bytes");
    buffer.free()?;
    with(suite, &wanted(RGBA_8888), 10, |_| Ok(()))
}

fn protected_content(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 11, |buffer| {
        check_eq!(buffer.long(11)?, 0, "PROTECTED_CONTENT of an open buffer");
        Ok(())
    })?;
    let mut protected = wanted(RGBA_8888);
    protected.usage = 0x4000 | 0x800;
    let Some(raw) = suite.try_allocate(&protected)? else {
        return Ok(Outcome::Unsupported("the allocator has no protected buffers".to_owned()));
    };
    let buffer = suite.import(&raw)?;
    check_eq!(buffer.long(11)?, 1, "PROTECTED_CONTENT of a protected buffer");
    buffer.free()?;
    Ok(Outcome::Passed)
}

/// Checks a value of an enumeration that vendors may extend.
fn is_none(suite: &Suite, number: i64, name: &str) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), number, |buffer| {
        check_eq!(buffer.extendable(number)?, (name.to_owned(), 0), "metadata of type {number}");
        Ok(())
    })
}

fn compression(suite: &Suite) -> Result<Outcome> {
    is_none(suite, 12, "Compression")
}

fn interlaced(suite: &Suite) -> Result<Outcome> {
    is_none(suite, 13, "Interlaced")
}

fn chroma_siting(suite: &Suite) -> Result<Outcome> {
    is_none(suite, 14, "ChromaSiting")
}

fn plane_layouts(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 15, |buffer| {
        let planes = buffer.planes()?;
        let [plane] = planes.as_slice() else { anyhow::bail!("{} planes", planes.len()) };
        let parts: Vec<_> = plane.components.iter().map(|part| (part.kind, part.offset, part.bits)).collect();
        let rgba = [(1 << 10, 0, 8), (1 << 11, 8, 8), (1 << 12, 16, 8), (1 << 30, 24, 8)];
        check_eq!(parts, rgba, "components");
        check_eq!((plane.offset, plane.increment), (0, 32), "offset and increment");
        check_eq!((plane.horizontal, plane.vertical), (1, 1), "subsampling");
        ensure!(plane.width >= 64 && plane.height >= 64, "{} by {} samples", plane.width, plane.height);
        ensure!(plane.width * plane.height * 4 <= plane.bytes, "the plane has {} bytes", plane.bytes);
        check_eq!(plane.stride, i64::from(buffer.word(23)?) * 4, "strideInBytes");
        ensure!(plane.offset + plane.bytes <= buffer.long(10)?, "the plane leaves the buffer");
        Ok(())
    })
}

fn crop(suite: &Suite) -> Result<Outcome> {
    with(suite, &wanted(RGBA_8888), 16, |buffer| {
        check_eq!(buffer.crop()?, [[0, 0, 64, 64]], "CROP");
        Ok(())
    })
}

fn stride(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    check_eq!(buffer.word(23)?, raw.stride, "STRIDE");
    let value = buffer.encoded(23)?;
    let refused = suite.mapper.set_standard(buffer.address, 23, &value);
    ensure!(refused != 0, "STRIDE can be set");
    check_eq!(suite.mapper.get_standard(0, 23, &mut [0; 512]), -BAD_BUFFER, "null");
    i32::try_from(buffer.long(3)?).context("WIDTH")?;
    buffer.free()?;
    Ok(Outcome::Passed)
}
