// SPDX-License-Identifier: Apache-2.0
//! A camera fills buffers of Anion, and a graphics device gets each of them, without a copy.
//!
//! ```text
//! allocator service                this program               camera (V4L2)      card (DRM)
//!        |<------- allocate(4) -------- |                            |               |
//!        |-------- 4 dma-bufs --------> |                            |               |
//!                                       |---- queue(buffer) -------->|  writes       |
//!                                       |<--- frame is in buffer ----|               |
//!                                       |---- import(buffer) ------------------------>|
//!                                       |<--- the same buffer, exported --------------|
//!                                       |  checks every byte         |               |
//!                                       |---- queue(buffer) -------->|  …            |
//! ```
//!
//! The camera is vivid, the kernel's virtual one, whose frames are known. Every buffer is blanked
//! before the camera gets it, so that a frame that was not written is detected. The service's
//! charges for this user are compared before, during and after, also while only a device holds a
//! buffer. docs/devices.md describes how to run it; examples/c/capture.c is the same in C.

#![deny(unsafe_code)]

#[path = "account/mod.rs"]
mod account;
#[path = "card/mod.rs"]
mod card;
#[expect(unsafe_code, reason = "requests of V4L2")]
#[path = "v4l2_capture/sys/mod.rs"]
mod sys;

use account::{Account, PATIENCE, say};
use anion_client::{Access, Buffer, Client, CpuAccess, Endpoint, Mapping, Settings};
use anyhow::{Context, Result, bail, ensure};
use card::Card;
use clap::Parser;
use drm::buffer::Handle;
use drm::control::Device;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use sys::{Camera, Layout};

/// Buffers: one is being filled, one is being checked, two are in between.
const BUFFERS: u32 = 4;
/// Frames per second, if the camera supports it.
const RATE: u32 = 30;
/// The value of every byte of a buffer before the camera fills it; no colour contains it.
const BLANK: u8 = 0x5a;

/// The driver whose frames are known.
const DRIVER: &str = "vivid";
/// The driver's names for controls and for their values.
const CONTROLS: [(&str, &str); 2] = [("Test Pattern", "100% Colorbar"), ("OSD Text Mode", "None")];
/// The bars from left to right: blue, green, red, and an unused byte.
const COLOURS: [[u8; 4]; 8] = [
    [255, 255, 255, 0],
    [0, 255, 255, 0],
    [255, 255, 0, 0],
    [0, 255, 0, 0],
    [255, 0, 255, 0],
    [0, 0, 255, 0],
    [255, 0, 0, 0],
    [0, 0, 0, 0],
];

/// Stream frames of the virtual camera vivid through 4 buffers of Anion, and check every byte
///
/// While it runs, no other program of this user may allocate or release buffers: the program checks
/// the user's usage.
#[derive(Parser)]
struct Arguments {
    /// The camera: a node of vivid that captures video
    #[arg(long, value_name = "PATH", default_value = "/dev/video0")]
    device: PathBuf,
    /// The heap of the buffers [default: any heap with dma-bufs]
    #[arg(long, value_name = "NAME")]
    heap: Option<String>,
    /// Number of frames
    #[arg(long, value_name = "N", default_value = "300")]
    frames: NonZeroU32,
    /// Size of a frame in pixels; the width is a multiple of 8
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = parse_size)]
    size: (u32, u32),
    /// Import each frame into this graphics device, such as /dev/dri/card0
    #[arg(long, value_name = "PATH")]
    card: Option<PathBuf>,
    /// Connect to the service over this Unix socket [default: as anionctl]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

fn parse_size(text: &str) -> Result<(u32, u32)> {
    let (width, height) =
        text.split_once('x').context("a size has the form WIDTHxHEIGHT, such as 640x480")?;
    let number = |text: &str| text.parse::<NonZeroU32>().map(NonZeroU32::get);
    let (width, height) = (
        number(width).context("the width is no number")?,
        number(height).context("the height is no number")?,
    );
    let bars = u32::try_from(COLOURS.len())?;
    ensure!(width.is_multiple_of(bars), "a width of {width} is no multiple of {bars}, the number of bars");
    Ok((width, height))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message cannot be reported elsewhere.
            let _ = writeln!(io::stderr(), "v4l2_capture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let endpoint = arguments.socket.clone().map(Endpoint::Socket);
    let client = Client::with(Settings { endpoint, ..Settings::default() })?;
    let account = Account { client: &client, heap: arguments.heap.as_deref(), name: "v4l2_capture" };
    let card = arguments.card.as_deref().map(Card::open).transpose()?;
    let (camera, layout) = open_camera(arguments)?;
    let (before, recycled) = (account.charged()?, count_recycled(&client)?);

    let buffers = account.allocate(layout.frame_bytes as u64, BUFFERS)?;
    let (heap, each) = buffers.first().map(|buffer| (buffer.heap(), buffer.bytes())).unwrap_or_default();
    let (all, recycled) = (u64::from(BUFFERS) * each, count_recycled(&client)? - recycled);
    say(format_args!("{BUFFERS} buffers of {each} bytes from heap {heap}, {recycled} of them recycled"))?;
    account.wait_for("with the buffers", before + all)?;
    let pipeline = Pipeline { client: &client, camera: &camera, card: card.as_ref(), layout };
    pipeline.stream(&buffers, arguments.frames.get())?;

    // The card holds the first one until the end.
    let kept = card.as_ref().map(|card| card.import(&buffers[0])).transpose()?;
    drop(buffers);
    account.wait_for_looks("while devices alone hold the buffers", before + all, each)?;
    camera.stop().context("the camera does not stop")?;
    camera.expect_buffers(0).context("the camera does not release its buffers")?;
    if let (Some(card), Some(kept)) = (&card, kept) {
        account.wait_for_looks("while the card alone holds one", before + each, each)?;
        card.release(kept)?;
    }
    account.wait_for("after the devices released them", before)
}

/// Opens the camera, and configures it for the known pattern and for dma-bufs.
fn open_camera(arguments: &Arguments) -> Result<(Camera, Layout)> {
    let path = arguments.device.display();
    let camera = Camera::open(&arguments.device).with_context(|| format!("cannot open {path}"))?;
    let (driver, captures) = camera.driver().with_context(|| format!("{path} is no V4L2 device"))?;
    ensure!(
        driver == DRIVER,
        "{path} is of the driver {driver}; only frames of {DRIVER} can be checked (modprobe {DRIVER})"
    );
    ensure!(
        captures,
        "{path} provides no stream of frames: --device must name a node of {DRIVER} that captures video"
    );
    for (control, value) in CONTROLS {
        let is_set = camera.choose(control, value).with_context(|| format!("{path}: control {control}"))?;
        ensure!(is_set, "{path} has no value {value:?} of a control {control:?}: frames cannot be checked");
    }
    let (width, height) = arguments.size;
    let layout =
        camera.set(width, height, RATE).with_context(|| format!("cannot set the format of {path}"))?;
    ensure!(
        (layout.width, layout.height) == (width as usize, height as usize),
        "--size is {width}x{height}, but the camera offers {}x{}",
        layout.width,
        layout.height
    );
    let count =
        camera.expect_buffers(BUFFERS).with_context(|| format!("{path} does not support dma-bufs"))?;
    ensure!(count == BUFFERS, "{path} requires {count} buffers instead of {BUFFERS}");
    say(format_args!("camera {path}: {width}x{height} pixels, {} bytes a frame", layout.frame_bytes))?;
    Ok((camera, layout))
}

/// Returns how many buffers of the heaps had recycled memory.
fn count_recycled(client: &Client) -> Result<i64> {
    let stats = client.call(|service| service.getStats())?;
    Ok(stats.iter().map(|stats| stats.recycled).sum())
}

impl Card {
    /// Imports a buffer, which the card holds until the handle is closed.
    fn import(&self, buffer: &Buffer) -> Result<Handle> {
        self.prime_fd_to_buffer(buffer.as_fd()).context("the card refuses a buffer")
    }

    fn release(&self, handle: Handle) -> Result<()> {
        self.close_buffer(handle).context("the card does not close a buffer")
    }
}

/// The path of a frame.
struct Pipeline<'a> {
    client: &'a Client,
    camera: &'a Camera,
    card: Option<&'a Card>,
    layout: Layout,
}

impl Pipeline<'_> {
    /// Streams frames through the buffers. At its return, the camera holds all of them.
    fn stream(&self, buffers: &[Buffer], frames: u32) -> Result<()> {
        let map = |buffer: &Buffer| buffer.map(Access::ReadWrite).context("cannot map a buffer");
        let mappings = buffers.iter().map(map).collect::<Result<Vec<_>>>()?;
        let queue = |index: usize| -> Result<()> {
            blank(&mappings[index]).context("cannot write to a buffer")?;
            self.camera.queue(index, buffers[index].as_fd()).context("the camera refuses a buffer")
        };
        (0..buffers.len()).try_for_each(queue)?;
        self.camera.start().context("the camera does not start")?;
        let (mut first, mut last) = (None, None);
        for number in 1..=frames {
            let frame = self.camera.dequeue(PATIENCE).context("the camera delivered no frame")?;
            let sequence = frame.sequence;
            ensure!(!frame.is_damaged, "frame {sequence} is marked as damaged by the camera");
            // vivid counts by its clock, and may give two frames the same number on a busy machine.
            ensure!(Some(sequence) >= last, "frame {sequence} came after frame {last:?}");
            ensure!(
                frame.bytes == self.layout.frame_bytes,
                "frame {sequence} has {} bytes, expected {}",
                frame.bytes,
                self.layout.frame_bytes
            );
            last = Some(sequence);
            let first = *first.get_or_insert(sequence);
            let buffer = buffers.get(frame.index).context("a frame in a buffer that does not exist")?;
            self.look_at(buffer).with_context(|| format!("frame {sequence}"))?;
            queue(frame.index)?;
            if number.is_multiple_of(100) || number == frames {
                let skipped = (sequence - first + 1).saturating_sub(number);
                say(format_args!(
                    "frame {number}/{frames}, every byte as expected, {skipped} skipped by the camera"
                ))?;
            }
        }
        Ok(())
    }

    /// Checks a frame: through the card's export, if there is a card.
    fn look_at(&self, buffer: &Buffer) -> Result<()> {
        let Some(card) = self.card else { return self.verify(buffer.as_fd()) };
        let handle = card.import(buffer)?;
        let flags = nix::fcntl::OFlag::O_CLOEXEC.bits().cast_unsigned();
        let shared = card.buffer_to_prime_fd(handle, flags).context("the card does not export a buffer")?;
        let id = self.client.describe(&shared).context("the card exported no buffer of Anion")?.id;
        ensure!(id.cast_unsigned() == buffer.id().0, "the card exported another buffer than it imported");
        self.verify(shared.as_fd())?;
        card.release(handle)
    }

    /// Compares the whole frame with the pattern, through a descriptor of its buffer.
    fn verify(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let Layout { width, height, row_bytes, frame_bytes } = self.layout;
        let expected: Vec<u8> =
            COLOURS.iter().flat_map(|colour| colour.repeat(width / COLOURS.len())).collect();
        let mut found = vec![0; expected.len()];
        let mapping = Mapping::new(fd, frame_bytes, Access::ReadOnly).context("cannot map a frame")?;
        let view = mapping.begin(CpuAccess::Read)?;
        for row in 0..height {
            view.read_at(row * row_bytes, &mut found)?;
            if found != expected {
                let same = found.iter().zip(&expected).take_while(|(found, expected)| found == expected);
                let at = same.count();
                bail!("row {row}, byte {at} is {}, expected {}", found[at], expected[at]);
            }
        }
        Ok(view.end()?)
    }
}

/// Sets every byte of a buffer to a value that no frame contains.
fn blank(mapping: &Mapping) -> io::Result<()> {
    let view = mapping.begin(CpuAccess::Write)?;
    view.fill(BLANK)?;
    view.end()
}
