// SPDX-License-Identifier: Apache-2.0
//! Gives graphic buffers of Android's allocator to devices, using only their metadata. A display
//! shows one and its picture is read back into another, or a graphics device holds one alone and
//! exports it again.
//!
//! ```text
//! graphics allocator        this program                  mapper.anion.so       device (DRM)
//!        |<--- allocate2 ------- |                               |                    |
//!        |---- native handle --> |---- importBuffer -----------> |                    |
//!                                |<--- format code, modifier --- |                    |
//!                                |     planes, sides, size       |                    |
//!                                |---- lock, draw, unlock -----> |                    |
//!                                |---- import, make a picture --------------------->  |
//!                                |<--- read back, or shared again ------------------  |
//! ```
//!
//! The program discards its request once it has the handle, like a process that receives one:
//! width, height, format code, modifier and planes come from the mapper, which is loaded as
//! graphics libraries load it. docs/gralloc.md describes how to run it.

#![deny(unsafe_code)]

#[path = "card/mod.rs"]
mod card;
#[path = "../vts/src/mapper/decode.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod decode;
#[path = "composer/graphic.rs"]
mod graphic;
#[path = "../vts/src/mapper/sys/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the conformance suite uses the rest")]
#[expect(unsafe_code, reason = "it calls a library of C's")]
mod platform;
#[path = "display/screen.rs"]
mod screen;
#[expect(unsafe_code, reason = "a fence that the kernel writes to memory")]
#[path = "display/sys/mod.rs"]
mod sys;

use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::{
    BufferDescriptorInfo::BufferDescriptorInfo, IAllocator::IAllocator,
};
use anion_client::{Access, CpuAccess, Mapping};
use anion_ipc::{Endpoint, connect};
use anyhow::{Context, Result, bail};
use card::Card;
use clap::Parser;
use drm::buffer::{DrmFourcc, DrmModifier};
use drm::control::Device;
use graphic::{Described, Graphic};
use platform::{Library, Mapper, Native};
use screen::{Layout, Screen};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The service name that Android's clients use over kernel binder. A socket has only one object.
const NAME: &str = "android.hardware.graphics.allocator.IAllocator/default";
/// The CPU reads and writes often, and a display reads.
const USAGE: i64 = 0x33 | 0x800;
/// Tested formats: values of `PixelFormat`, with one, two and three planes.
const BGRA_8888: i32 = 5;
const FORMATS: [(&str, i32); 3] = [("BGRA_8888", BGRA_8888), ("YCBCR_420_888", 0x23), ("YV12", 0x3231_5659)];
/// Longest time for a display; it takes well under a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a pixel that a display shows; the fourth is the display's own.
const COLOURS: usize = 3;

/// Import graphic buffers into a graphics device or a display, using only their metadata, and
/// compare the pixels that the device exports or reads back
#[derive(Parser)]
struct Arguments {
    /// Node of the device
    #[arg(long, value_name = "PATH", default_value = "/dev/dri/card0")]
    card: PathBuf,
    /// The graphics allocator: binder or unix:PATH
    #[arg(long, value_name = "ENDPOINT", default_value = "binder")]
    graphics: Endpoint,
    /// The mapper library that reads the allocator's handles
    #[arg(long, value_name = "LIBRARY")]
    mapper: PathBuf,
    /// Size of a picture in pixels; a display needs a mode of this size
    #[arg(long, value_names = ["WIDTH", "HEIGHT"], num_args = 2, default_values = ["640", "480"])]
    size: Vec<i32>,
    /// Show a picture on the device, which is a display with a writeback connector, such as vkms
    #[arg(long)]
    show: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message cannot be reported elsewhere.
            let _ = writeln!(io::stderr(), "composer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let connection = connect::<dyn IAllocator>(&arguments.graphics, NAME, 1)
        .with_context(|| format!("no graphics allocator at {}", arguments.graphics))?;
    let [width, height] = <[i32; 2]>::try_from(&arguments.size[..])?;
    let source = Source {
        allocator: connection.service.as_ref(),
        mapper: Library::open(&arguments.mapper)?.load()?,
        width,
        height,
    };
    if arguments.show { show(arguments, &source) } else { share(arguments, &source) }
}

/// The source of graphic buffers.
struct Source<'a> {
    allocator: &'a dyn IAllocator,
    mapper: Mapper,
    width: i32,
    height: i32,
}

impl Source<'_> {
    /// Allocates a buffer and imports its handle.
    fn graphic(&self, format: i32) -> Result<Graphic> {
        let mut wanted = BufferDescriptorInfo {
            width: self.width,
            height: self.height,
            layerCount: 1,
            ..Default::default()
        };
        wanted.name[..8].copy_from_slice(b"composer");
        (wanted.format.0, wanted.usage.0) = (format, USAGE);
        let answer = self.allocator.allocate2(&wanted, 1).map_err(|status| anyhow::anyhow!("{status}"))?;
        let handle = answer.buffers.into_iter().next().context("the allocator returned no buffer")?;
        let fds = handle.fds.into_iter().map(OwnedFd::from).collect();
        Graphic::import(self.mapper, Native::new(fds, &handle.ints)?)
    }
}

/// Has a display show a buffer, and reads the picture back into another one.
fn show(arguments: &Arguments, source: &Source<'_>) -> Result<()> {
    let (shown, written) = (source.graphic(BGRA_8888)?, source.graphic(BGRA_8888)?);
    let (from, into) = (shown.describe()?, written.describe()?);
    let screen = Screen::open(&arguments.card, from.size)?;
    let layout = opaque(&from)?;
    shown.draw(&from, 0x80)?;
    written.draw(&into, 0)?;
    let picture = screen.import(shown.pixels(), &layout)?;
    let back = screen.import(written.pixels(), &opaque(&into)?)?;
    screen.show(picture)?;
    screen.read_back(back, PATIENCE)?;
    written.locked(&into, |pixels| from.compare(0x80, COLOURS, |at| Ok(pixels.get(at))))?;
    screen.clear()?;
    screen.discard(picture)?;
    screen.discard(back)?;
    say(format_args!(
        "BGRA_8888: {from} shown as {} on {}, and read back as drawn",
        layout.format, screen.name
    ))
}

/// Returns the layout for a display, whose planes support only the format without alpha.
fn opaque(described: &Described) -> Result<Layout> {
    let format = match DrmFourcc::try_from(described.fourcc) {
        Ok(DrmFourcc::Argb8888) => DrmFourcc::Xrgb8888,
        other => bail!("the format code is {other:?}, expected AR24"),
    };
    let planes =
        described.planes.iter().map(|plane| Ok((u32::try_from(plane.offset)?, u32::try_from(plane.stride)?)));
    Ok(Layout {
        size: described.size,
        format,
        modifier: Some(DrmModifier::from(described.modifier)),
        planes: planes.collect::<Result<_>>()?,
    })
}

/// Has a device hold a buffer alone, and export it again.
fn share(arguments: &Arguments, source: &Source<'_>) -> Result<()> {
    let card = Card::open(&arguments.card)?;
    for (name, format) in FORMATS {
        let graphic = source.graphic(format)?;
        let described = graphic.describe()?;
        graphic.draw(&described, 0)?;
        let handle = card.prime_fd_to_buffer(graphic.pixels()).context("the device refuses the buffer")?;
        // From here on, only the device holds the pixels.
        drop(graphic);
        let flags = nix::fcntl::OFlag::O_CLOEXEC.bits().cast_unsigned();
        let shared =
            card.buffer_to_prime_fd(handle, flags).context("the device does not export the buffer")?;
        let bytes = usize::try_from(described.bytes)?;
        let mapping = Mapping::new(shared.as_fd(), bytes, Access::ReadOnly).context("cannot map it")?;
        let view = mapping.begin(CpuAccess::Read)?;
        described.compare(0, usize::MAX, |at| {
            let mut byte = [0];
            view.read_at(at, &mut byte)?;
            Ok(byte[0])
        })?;
        view.end()?;
        card.close_buffer(handle).context("the device does not close the buffer")?;
        say(format_args!("{name}: {described} shared by the device, and as drawn"))?;
    }
    Ok(())
}

/// Prints a line.
fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}
