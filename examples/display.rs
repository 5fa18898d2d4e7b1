// SPDX-License-Identifier: Apache-2.0
//! A display shows buffers of Anion, and its picture is read back into another one.
//!
//! ```text
//! allocator service                this program                display (DRM)
//!        |<------- allocate(3) -------- |                            |
//!        |-------- 3 dma-bufs --------> |                            |
//!                                       |---- import(all three) ---->|
//!                                       |  draws into the first      |
//!                                       |---- show(first) ---------->|  reads the first
//!                                       |---- read back(third) ----->|  writes the third
//!                                       |<--- fence signals ---------|
//!                                       |  checks the third          |
//!                                       |  draws into the second …   |
//! ```
//!
//! The display is vkms, the kernel's virtual one, with a writeback connector; any display with such
//! a connector works. The third buffer is blanked before each read-back, so that a picture that was
//! not written is detected. The service's charges for this user are compared before, during and
//! after, also while only the display holds a buffer. docs/devices.md describes how to run it.

#![deny(unsafe_code)]

#[path = "account/mod.rs"]
mod account;
#[path = "card/mod.rs"]
mod card;
#[path = "display/screen.rs"]
mod screen;
#[expect(unsafe_code, reason = "a fence that the kernel writes to memory")]
#[path = "display/sys/mod.rs"]
mod sys;

use account::{Account, PATIENCE, say};
use anion_client::{Access, Client, CpuAccess, Endpoint, Mapping, Settings};
use anyhow::{Context, Result, bail};
use clap::Parser;
use drm::buffer::DrmFourcc;
use screen::{Layout, Screen};
use std::io::{self, Write};
use std::num::{NonZeroU16, NonZeroU32};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

/// Buffers: two are shown in turn, one is written.
const BUFFERS: u32 = 3;
/// Bytes of a pixel: blue, green, red, and an unused one.
const PIXEL: usize = 4;
/// The value of every byte of the third buffer before it is written; no picture contains it.
const BLANK: u8 = 0x5a;

/// Show buffers of Anion on a display, read them back and check every byte
///
/// While it runs, no other program of this user may allocate or release buffers: the program checks
/// the user's usage.
#[derive(Parser)]
struct Arguments {
    /// The display: a device with a writeback connector, such as vkms
    #[arg(long, value_name = "PATH", default_value = "/dev/dri/card0")]
    card: PathBuf,
    /// The heap of the buffers [default: any heap with dma-bufs]
    #[arg(long, value_name = "NAME")]
    heap: Option<String>,
    /// Number of pictures
    #[arg(long, value_name = "N", default_value = "60")]
    frames: NonZeroU32,
    /// Show the last picture until the program is ended, without further checks
    #[arg(long)]
    hold: bool,
    /// Size of a picture in pixels: a mode of the display
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = parse_size)]
    size: (u32, u32),
    /// Connect to the service over this Unix socket [default: as anionctl]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

fn parse_size(text: &str) -> Result<(u32, u32)> {
    let (width, height) =
        text.split_once('x').context("a size has the form WIDTHxHEIGHT, such as 640x480")?;
    // A mode is not larger.
    let number = |text: &str| text.parse::<NonZeroU16>().ok().map(|number| number.get().into());
    Ok((
        number(width).context("the width is a number from 1 to 65535")?,
        number(height).context("the height is a number from 1 to 65535")?,
    ))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message cannot be reported elsewhere.
            let _ = writeln!(io::stderr(), "display: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let endpoint = arguments.socket.clone().map(Endpoint::Socket);
    let client = Client::with(Settings { endpoint, ..Settings::default() })?;
    let account = Account { client: &client, heap: arguments.heap.as_deref(), name: "display" };
    let size @ (width, height) = arguments.size;
    let screen = Screen::open(&arguments.card, size)?;
    say(format_args!("display {}: {width}x{height} pixels on {}", arguments.card.display(), screen.name))?;
    let before = account.charged()?;

    let canvas = Canvas { width: width as usize, height: height as usize };
    let buffers = account.allocate(canvas.bytes() as u64, BUFFERS)?;
    let (heap, each) = buffers.first().map(|buffer| (buffer.heap(), buffer.bytes())).unwrap_or_default();
    say(format_args!("{BUFFERS} buffers of {each} bytes from heap {heap}"))?;
    account.wait_for("with the buffers", before + u64::from(BUFFERS) * each)?;
    let planes = vec![(0, u32::try_from(canvas.row_bytes())?)];
    let layout = Layout { size, format: DrmFourcc::Xrgb8888, modifier: None, planes };
    let import = |buffer: &anion_client::Buffer| {
        screen.import(buffer.as_fd(), &layout).with_context(|| format!("a buffer of heap {}", buffer.heap()))
    };
    let pictures = buffers.iter().map(import).collect::<Result<Vec<_>>>()?;
    let map = |buffer: &anion_client::Buffer| buffer.map(Access::ReadWrite).context("cannot map a buffer");
    let mappings = buffers.iter().map(map).collect::<Result<Vec<_>>>()?;
    let (Ok([shown @ .., into]), Ok([pages @ .., written])) =
        (<[_; BUFFERS as usize]>::try_from(pictures), <[_; BUFFERS as usize]>::try_from(mappings))
    else {
        bail!("the service returned another number of buffers than {BUFFERS}");
    };

    let frames = arguments.frames.get();
    for number in 1..=frames {
        let turn = number as usize % shown.len();
        canvas.draw(&pages[turn], number).context("cannot write to a buffer")?;
        blank(&written).context("cannot write to a buffer")?;
        screen.show(shown[turn]).with_context(|| format!("picture {number}"))?;
        screen.read_back(into, PATIENCE).with_context(|| format!("picture {number}"))?;
        canvas.verify(&written, number).with_context(|| format!("picture {number}"))?;
        if number == 1 || number.is_multiple_of(100) || number == frames {
            say(format_args!("picture {number}/{frames} shown and read back, every colour as drawn"))?;
        }
    }

    if arguments.hold {
        say(format_args!("showing picture {frames} until the program is ended"))?;
        loop {
            thread::park();
        }
    }
    // The display still holds the last one.
    let last = shown[frames as usize % shown.len()];
    screen.show(last)?;
    for picture in shown.into_iter().chain([into]).filter(|picture| *picture != last) {
        screen.discard(picture)?;
    }
    drop((pages, written, buffers));
    account.wait_for_looks("while the display alone holds one", before + each, each)?;
    screen.clear()?;
    screen.discard(last)?;
    account.wait_for("after the display released it", before)
}

/// Sets every byte of a buffer to a value that no picture contains.
fn blank(mapping: &Mapping) -> io::Result<()> {
    let view = mapping.begin(CpuAccess::Write)?;
    view.fill(BLANK)?;
    view.end()
}

/// The size of pictures, in pixels.
#[derive(Debug, Clone, Copy)]
struct Canvas {
    width: usize,
    height: usize,
}

impl Canvas {
    /// Returns the bytes of a row.
    fn row_bytes(self) -> usize {
        self.width * PIXEL
    }

    /// Returns the bytes of a picture.
    fn bytes(self) -> usize {
        self.row_bytes() * self.height
    }

    /// Returns a row of a picture. Its colours encode the picture's number and the position of each
    /// pixel, and no byte of them is [`BLANK`].
    fn row(self, y: usize, number: u32) -> Vec<u8> {
        let number = number as usize;
        let colour = |value: usize| 0x80 | (value & 0x7f).to_le_bytes()[0];
        let pixel =
            |x| [colour(x + number), colour(y + number), colour((x >> 7 << 3) ^ (y >> 7) ^ number), 0];
        (0..self.width).flat_map(pixel).collect()
    }

    /// Draws a picture into a buffer.
    fn draw(self, mapping: &Mapping, number: u32) -> io::Result<()> {
        let view = mapping.begin(CpuAccess::Write)?;
        for y in 0..self.height {
            view.write_at(y * self.row_bytes(), &self.row(y, number))?;
        }
        view.end()
    }

    /// Compares every colour of every pixel in a buffer with the picture. Ignores the fourth byte,
    /// which the display may set.
    fn verify(self, mapping: &Mapping, number: u32) -> Result<()> {
        let mut found = vec![0; self.row_bytes()];
        let view = mapping.begin(CpuAccess::Read)?;
        for y in 0..self.height {
            view.read_at(y * self.row_bytes(), &mut found)?;
            let expected = self.row(y, number);
            let mut pixels = found.chunks(PIXEL).zip(expected.chunks(PIXEL));
            if let Some(x) = pixels.position(|(found, expected)| found[..3] != expected[..3]) {
                let [found, expected] = [&found, &expected].map(|row| row[x * PIXEL..][..3].to_vec());
                bail!("the pixel in column {x} of row {y} is {found:?}, expected {expected:?}");
            }
        }
        Ok(view.end()?)
    }
}
