// SPDX-License-Identifier: Apache-2.0
//! Tests formats with several planes, and formats of sensors.

use super::{Outcome, bodies, check_eq};
use crate::mapper::decode::{Component, Plane};
use crate::mapper::suite::{
    Buffer, RAW10, RAW12, READ, Suite, WRITE, YCBCR_420_888, YCBCR_P010, YCBCR_P210, YCRCB_420_SP, YV12,
    wanted,
};
use crate::mapper::sys::Pixels;
use anyhow::{Context, Result, ensure};

bodies! {
    "Lock_YCRCB_420_SP" nv21,
    "YV12SubsampleMetadata" yv12_has_half_of_the_chroma,
    "Lock_YV12" yv12,
    "Lock_YCBCR_420_888" ycbcr_420,
    "Lock_RAW10" raw10,
    "Lock_RAW12" raw12,
    "Lock_YCBCR_P010" p010,
    "Lock_YCBCR_P210" p210,
}

const Y: i64 = 1;
const CB: i64 = 2;
const CR: i64 = 4;
const RAW: i64 = 1 << 20;
const WIDTH: usize = 64;
const HEIGHT: usize = 64;

/// The positions of a component's samples, in bytes from the start of the image.
struct Channel {
    start: usize,
    step: usize,
    stride: usize,
    columns: usize,
    rows: usize,
}

impl Channel {
    fn at(&self, column: usize, row: usize) -> usize {
        self.start + row * self.stride + column * self.step
    }
}

/// Finds the one component of a kind.
fn find(planes: &[Plane], kind: i64) -> Result<(&Plane, &Component)> {
    let all = planes.iter().flat_map(|plane| plane.components.iter().map(move |part| (plane, part)));
    let mut found = all.filter(|(_, part)| part.kind == kind);
    let first = found.next().with_context(|| format!("no component {kind}"))?;
    ensure!(found.next().is_none(), "component {kind} occurs twice");
    Ok(first)
}

/// Returns a channel of whole bytes.
fn channel(planes: &[Plane], kind: i64) -> Result<Channel> {
    let (plane, part) = find(planes, kind)?;
    check_eq!((part.offset % 8, part.bits, plane.increment % 8), (0, 8, 0), "bits of component {kind}");
    let size = |value: i64| usize::try_from(value).context("a size");
    Ok(Channel {
        start: size(plane.offset + part.offset / 8)?,
        step: size(plane.increment / 8)?,
        stride: size(plane.stride)?,
        columns: WIDTH / size(plane.horizontal)?,
        rows: HEIGHT / size(plane.vertical)?,
    })
}

struct Ycbcr {
    y: Channel,
    cb: Channel,
    cr: Channel,
}

/// Returns the three channels of an image with subsampled chroma in both directions.
fn halved(buffer: &Buffer<'_>) -> Result<Ycbcr> {
    let planes = buffer.planes()?;
    let [y, cb, cr] = [Y, CB, CR].map(|kind| channel(&planes, kind));
    let image = Ycbcr { y: y?, cb: cb?, cr: cr? };
    check_eq!((image.y.step, image.y.columns, image.y.rows), (1, WIDTH, HEIGHT), "luma");
    check_eq!(image.cb.stride, image.cr.stride, "strides of chroma");
    check_eq!(image.cb.step, image.cr.step, "steps of chroma");
    ensure!([1, 2].contains(&image.cb.step), "step of chroma is {}", image.cb.step);
    for chroma in [&image.cb, &image.cr] {
        check_eq!((chroma.columns, chroma.rows), (WIDTH / 2, HEIGHT / 2), "samples of chroma");
    }
    Ok(image)
}

/// Visits all samples, each with a different number.
fn each(image: &Ycbcr, mut visit: impl FnMut(usize, u8) -> Result<()>) -> Result<()> {
    for (channel, seed) in [(&image.y, 1_usize), (&image.cb, 85), (&image.cr, 170)] {
        for (row, column) in (0..channel.rows).flat_map(|row| (0..channel.columns).map(move |c| (row, c))) {
            let [number, ..] = (seed + row * 5 + column).to_le_bytes();
            visit(channel.at(column, row), number)?;
        }
    }
    Ok(())
}

/// Writes every sample, and then reads all: none overlaps another.
fn write_and_read(buffer: &Buffer<'_>, image: &Ycbcr) -> Result<()> {
    let pixels: Pixels = buffer.locked(READ | WRITE)?;
    each(image, |at, number| {
        pixels.set(at, number);
        Ok(())
    })?;
    buffer.unlocked()?;
    let pixels = buffer.locked(READ)?;
    each(image, |at, number| {
        check_eq!(pixels.get(at), number, "byte {at}");
        Ok(())
    })?;
    buffer.unlocked()
}

/// Runs a check with a buffer of a format that may be unsupported.
fn optional(suite: &Suite, format: i32, name: &str, check: fn(&Buffer<'_>) -> Result<()>) -> Result<Outcome> {
    let Some(raw) = suite.try_allocate(&wanted(format))? else {
        return Ok(Outcome::Unsupported(format!("the allocator has no {name}")));
    };
    let buffer = suite.import(&raw)?;
    check(&buffer)?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

/// Runs a check with a buffer of a format that must be supported.
fn mandatory(suite: &Suite, format: i32, check: fn(&Buffer<'_>) -> Result<()>) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(format))?;
    let buffer = suite.import(&raw)?;
    check(&buffer)?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn nv21(suite: &Suite) -> Result<Outcome> {
    optional(suite, YCRCB_420_SP, "YCRCB_420_SP", |buffer| {
        let image = halved(buffer)?;
        check_eq!((image.cr.start + 1, image.cr.step), (image.cb.start, 2), "chroma");
        write_and_read(buffer, &image)
    })
}

fn yv12_has_half_of_the_chroma(suite: &Suite) -> Result<Outcome> {
    mandatory(suite, YV12, |buffer| {
        let planes = buffer.planes()?;
        check_eq!(planes.len(), 3, "planes");
        for (kind, subsampling, samples) in [(Y, 1, 64), (CR, 2, 32), (CB, 2, 32)] {
            let (plane, _) = find(&planes, kind)?;
            check_eq!((plane.horizontal, plane.vertical), (subsampling, subsampling), "plane of {kind}");
            check_eq!((plane.width, plane.height), (samples, samples), "samples of {kind}");
            check_eq!(plane.components.len(), 1, "components beside {kind}");
        }
        Ok(())
    })
}

fn yv12(suite: &Suite) -> Result<Outcome> {
    mandatory(suite, YV12, |buffer| {
        let image = halved(buffer)?;
        check_eq!(image.cb.step, 1, "step of chroma");
        check_eq!(image.cr.start + image.cr.stride * HEIGHT / 2, image.cb.start, "start of CB");
        write_and_read(buffer, &image)
    })
}

fn ycbcr_420(suite: &Suite) -> Result<Outcome> {
    mandatory(suite, YCBCR_420_888, |buffer| write_and_read(buffer, &halved(buffer)?))
}

/// Checks a format whose pixels do not begin at whole bytes.
fn of_sensor(buffer: &Buffer<'_>, bits: usize) -> Result<()> {
    let planes = buffer.planes()?;
    let [plane] = planes.as_slice() else { anyhow::bail!("{} planes", planes.len()) };
    let [part] = plane.components.as_slice() else { anyhow::bail!("components: {:?}", plane.components) };
    check_eq!((part.kind, part.offset % 8, part.bits), (RAW, 0, -1), "the component");
    check_eq!((plane.increment, plane.horizontal, plane.vertical), (0, 1, 1), "the plane");
    let stride = usize::try_from(plane.stride).context("stride")?;
    ensure!(stride >= WIDTH * bits / 8, "stride is {stride} bytes, but a row has {WIDTH} times {bits} bits");
    let pixels = buffer.locked(READ | WRITE)?;
    let last = stride * (HEIGHT - 1) + WIDTH * bits / 8 - 1;
    for (at, value) in [(0, 0x5a), (last, 0xa5)] {
        pixels.set(at, value);
        check_eq!(pixels.get(at), value, "byte {at}");
    }
    buffer.unlocked()
}

fn raw10(suite: &Suite) -> Result<Outcome> {
    optional(suite, RAW10, "RAW10", |buffer| of_sensor(buffer, 10))
}

fn raw12(suite: &Suite) -> Result<Outcome> {
    optional(suite, RAW12, "RAW12", |buffer| of_sensor(buffer, 12))
}

/// Checks a format with ten bits in sixteen.
fn ten_bits(buffer: &Buffer<'_>, vertical: i64) -> Result<()> {
    let planes = buffer.planes()?;
    let [luma, chroma] = planes.as_slice() else { anyhow::bail!("{} planes", planes.len()) };
    check_eq!((luma.components.len(), chroma.components.len()), (1, 2), "components");
    check_eq!((luma.increment, chroma.increment), (16, 32), "increments");
    check_eq!((luma.horizontal, luma.vertical), (1, 1), "subsampling of luma");
    check_eq!((chroma.horizontal, chroma.vertical), (2, vertical), "subsampling of chroma");
    let [y, cb, cr] = [Y, CB, CR].map(|kind| find(&planes, kind));
    let (y, cb, cr) = (y?.1, cb?.1, cr?.1);
    check_eq!((y.offset, y.bits, cb.bits, cr.bits), (6, 10, 10, 10), "bits");
    check_eq!(cr.offset, cb.offset + 16, "CR follows CB");
    let last = usize::try_from(chroma.offset + chroma.stride * (chroma.height - 1) + 4 * chroma.width - 1)?;
    let pixels = buffer.locked(READ | WRITE)?;
    pixels.set(last, 0x77);
    check_eq!(pixels.get(last), 0x77, "byte {last}");
    buffer.unlocked()
}

fn p010(suite: &Suite) -> Result<Outcome> {
    optional(suite, YCBCR_P010, "YCBCR_P010", |buffer| ten_bits(buffer, 2))
}

fn p210(suite: &Suite) -> Result<Outcome> {
    optional(suite, YCBCR_P210, "YCBCR_P210", |buffer| ten_bits(buffer, 1))
}
