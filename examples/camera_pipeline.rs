// SPDX-License-Identifier: Apache-2.0
//! Two processes share camera frames without copying them.
//!
//! ```text
//! allocator service                  producer                         consumer
//!        |<------- allocate(4) -------- |                                 |
//!        |-------- 4 descriptors -----> |                                 |
//!                                       |---- the same 4 (SCM_RIGHTS) --->|  map, read-only
//!                                       |---- "frame 0 is in slot 0" ---->|  check every byte
//!                                       |<--- "slot 0 is free" -----------|
//!                                       |---- "frame 1 is in slot 1" ---->|  …
//! ```
//!
//! Only six bytes per frame cross the socket: the pixels are not copied. Neither process calls a
//! function to free the buffers. When both have closed them, the kernel reports it to the service,
//! and the account of this user returns to its earlier value.
//!
//! It needs a running service: `cargo run --release --example camera_pipeline -- --socket
//! /run/anion/allocator.sock`. It exits with 1 if a single byte is wrong, or if the memory is not
//! released.

#![forbid(unsafe_code)]

use anion_client::{Access, Buffer, Client, CpuAccess, Endpoint, Mapping, Request, Settings};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// Buffers in the ring: one being written, one being read, two for the jitter between them.
const SLOTS: usize = 4;
/// Bytes of a row: 1920 pixels of one byte.
const STRIDE: usize = 1920;
/// Rows of an NV12 frame: 1080 of luma, then half as many of chroma.
const ROWS: usize = 1080 + 1080 / 2;
/// Bytes of a frame.
const FRAME_BYTES: usize = STRIDE * ROWS;
/// Longest time for the service to detect that all buffers are released; it takes well under a
/// millisecond.
const RELEASE_DEADLINE: Duration = Duration::from_secs(60);

/// Pass camera frames from one process to another in shared buffers, and check every byte
#[derive(Parser)]
struct Arguments {
    /// Connect to the service over this Unix socket [default: as anionctl]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Number of frames
    #[arg(long, value_name = "N", default_value_t = 120)]
    frames: u32,
    /// Run as the consumer, with the producer's socket as standard input
    #[arg(long, hide = true)]
    consume: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (role, outcome) =
        if arguments.consume { ("consumer", consume()) } else { ("producer", produce(&arguments)) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the message cannot be reported elsewhere.
            let _ = writeln!(io::stderr(), "camera_pipeline: {role}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

// ---- The producer
// -------------------------------------------------------------------------------------------

/// Allocates the ring, starts the consumer, streams the frames, and checks that the memory is
/// released.
fn produce(arguments: &Arguments) -> Result<()> {
    let endpoint = arguments.socket.clone().map(Endpoint::Socket);
    let client = Client::with(Settings { endpoint, ..Settings::default() })?;
    let before = held_bytes(&client)?;
    println!("service {}, {before} bytes held before", client.endpoint());

    // One batch: all buffers of one heap, or none.
    let request = Request::new(FRAME_BYTES as u64).count(u32::try_from(SLOTS)?).name("camera_pipeline");
    let ring = client.allocate(&request)?;
    let heap = ring.first().map(Buffer::heap).unwrap_or_default().to_owned();
    println!("allocated {SLOTS} NV12 buffers of {FRAME_BYTES} bytes from heap {heap}");
    let (ours, theirs) = UnixStream::pair()?;
    let mut consumer = start_consumer(theirs)?;
    send_ring(&ours, &ring)?;
    let flowed = stream_frames(ours, &ring, arguments.frames);
    // The consumer ends with its socket; its error is reported before this process's own.
    let status = consumer.wait()?;
    ensure!(status.success(), "the consumer failed: {status}");
    flowed?;

    print_accounts("both processes done, buffers still held by the producer", &client, &heap)?;
    drop(ring);
    let took = wait_for_release(&client, before)?;
    print_accounts(&format!("buffers released, noticed within {took:.1?}"), &client, &heap)
}

/// Executes this program again as the consumer: another process, which inherits only the socket.
fn start_consumer(socket: UnixStream) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("--consume")
        .stdin(OwnedFd::from(socket))
        .spawn()
        .context("cannot start the consumer")
}

/// Draws every frame into a free slot and announces it; waits for a free slot if the consumer is
/// slower.
fn stream_frames(mut socket: UnixStream, ring: &[Buffer], frames: u32) -> Result<()> {
    let maps = map_ring(ring, Access::ReadWrite)?;
    let picture = Picture::new();
    let mut free: VecDeque<u8> = (0..u8::try_from(maps.len())?).collect();
    let mut progress = Progress::new(frames);
    for frame in 0..frames {
        let slot = match free.pop_front() {
            Some(slot) => slot,
            None => read_freed(&mut socket)?,
        };
        picture.draw(&maps[usize::from(slot)], frame)?;
        Announcement { frame, slot }.send(&mut socket)?;
        progress.advance(frame + 1)?;
    }
    // The consumer has found every returned slot correct.
    while free.len() < ring.len() {
        free.push_back(read_freed(&mut socket)?);
    }
    Ok(())
}

/// Returns the next slot that the consumer has released.
fn read_freed(socket: &mut UnixStream) -> Result<u8> {
    let mut slot = [0];
    socket.read_exact(&mut slot).context("the consumer has closed its socket")?;
    ensure!(usize::from(slot[0]) < SLOTS, "slot {} was freed, but there are {SLOTS}", slot[0]);
    Ok(slot[0])
}

/// Returns the bytes that this user holds, from the service's account.
fn held_bytes(client: &Client) -> Result<i64> {
    let uid = nix::unistd::Uid::effective().as_raw();
    let usage = client.call(|service| service.getUsage())?;
    Ok(usage.iter().find(|row| row.uid.cast_unsigned() == uid).map_or(0, |row| row.bytes))
}

/// Waits until this user holds no more than `before`, without a call that releases buffers. Returns
/// the time.
fn wait_for_release(client: &Client, before: i64) -> Result<Duration> {
    let released = Instant::now();
    loop {
        let held = held_bytes(client)?;
        if held <= before {
            return Ok(released.elapsed());
        }
        ensure!(
            released.elapsed() < RELEASE_DEADLINE,
            "this user holds {held} bytes after {RELEASE_DEADLINE:?}, but held {before} before the run"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Prints the heap's counters and this user's account.
fn print_accounts(when: &str, client: &Client, heap: &str) -> Result<()> {
    println!("{when}:");
    for stats in client.call(|service| service.getStats())?.iter().filter(|stats| stats.heapName == heap) {
        println!(
            "  heap {heap}: {} bytes live, {} bytes at most, {} buffers handed out, {} released",
            stats.liveBytes, stats.allocBytesWm, stats.allocations, stats.frees
        );
    }
    println!("  this user: {} bytes held", held_bytes(client)?);
    Ok(())
}

/// Prints the number of frames: on a terminal in one line that is rewritten, elsewhere in a line
/// from time to time.
struct Progress {
    frames: u32,
    started: Instant,
    terminal: bool,
}

impl Progress {
    fn new(frames: u32) -> Self {
        Self { frames, started: Instant::now(), terminal: io::stdout().is_terminal() }
    }

    fn advance(&mut self, done: u32) -> io::Result<()> {
        let last = done == self.frames;
        let rate = f64::from(done) / self.started.elapsed().as_secs_f64();
        let text = format!("frame {done}/{}, {rate:.0} per second", self.frames);
        let mut out = io::stdout();
        match (self.terminal, last) {
            (true, false) => write!(out, "\r{text}\x1b[K")?,
            (true, true) => writeln!(out, "\r{text}\x1b[K")?,
            (false, _) if last || done.is_multiple_of(self.frames.div_ceil(4)) => writeln!(out, "{text}")?,
            (false, _) => {}
        }
        out.flush()
    }
}

// ---- The consumer
// -------------------------------------------------------------------------------------------

/// Receives the ring, then checks frame after frame until the producer closes the socket.
fn consume() -> Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let ring = receive_ring(&socket)?;
    let maps = map_ring(&ring, Access::ReadOnly)?;
    // Mappings hold the buffers as descriptors do.
    drop(ring);
    let picture = Picture::new();
    let mut expected = 0;
    while let Some(announced) = Announcement::receive(&mut socket)? {
        ensure!(announced.frame == expected, "received frame {}, expected {expected}", announced.frame);
        let map = maps.get(usize::from(announced.slot)).context("a frame in a slot that does not exist")?;
        picture.verify(map, announced.frame)?;
        socket.write_all(&[announced.slot]).context("the producer has closed its socket")?;
        expected += 1;
    }
    Ok(())
}

// ---- Shared by both
// -----------------------------------------------------------------------------------------

/// The number of a frame and of its slot: five bytes instead of three million.
struct Announcement {
    frame: u32,
    slot: u8,
}

impl Announcement {
    fn send(&self, socket: &mut UnixStream) -> Result<()> {
        let [a, b, c, d] = self.frame.to_le_bytes();
        socket.write_all(&[self.slot, a, b, c, d]).context("the consumer has closed its socket")
    }

    /// Returns the next announcement; `None` when the producer has closed the socket.
    fn receive(socket: &mut UnixStream) -> Result<Option<Self>> {
        let mut message = [0; 5];
        match socket.read_exact(&mut message) {
            Ok(()) => {
                let [slot, a, b, c, d] = message;
                Ok(Some(Self { frame: u32::from_le_bytes([a, b, c, d]), slot }))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends the buffers: the kernel gives the receiver its own descriptors.
fn send_ring(socket: &UnixStream, ring: &[Buffer]) -> Result<()> {
    let descriptors: Vec<_> = ring.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "{SLOTS} descriptors do not fit");
    // A message with descriptors needs at least one byte of data.
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the buffers of [`send_ring`].
fn receive_ring(socket: &UnixStream) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    ensure!(received.bytes == 1, "the producer has closed its socket");
    let mut ring = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            ring.extend(descriptors);
        }
    }
    ensure!(ring.len() == SLOTS, "received {} descriptors, expected {SLOTS}", ring.len());
    Ok(ring)
}

/// Maps every buffer of the ring.
fn map_ring(ring: &[impl AsFd], access: Access) -> Result<Vec<Mapping>> {
    ring.iter().map(|fd| Mapping::new(fd, FRAME_BYTES, access).context("cannot map a buffer")).collect()
}

/// The picture: a diagonal gradient that moves with every frame. Each row also has the frame's
/// number in its first bytes and its own number in its last, so that no two rows of a run are
/// equal: an old frame, a shifted row or a shared page is always detected.
struct Picture {
    ramp: Vec<u8>,
}

impl Picture {
    fn new() -> Self {
        Self { ramp: (0..=u8::MAX).cycle().take(STRIDE + usize::from(u8::MAX)).collect() }
    }

    /// Draws a frame, as a camera does by DMA.
    fn draw(&self, mapping: &Mapping, frame: u32) -> Result<()> {
        let view = mapping.begin(CpuAccess::Write)?;
        for number in 0..ROWS {
            view.write_at(number * STRIDE, &self.row(frame, number))?;
        }
        Ok(view.end()?)
    }

    /// Compares every byte of a frame with the picture.
    fn verify(&self, mapping: &Mapping, frame: u32) -> Result<()> {
        let view = mapping.begin(CpuAccess::Read)?;
        let mut found = [0; STRIDE];
        for number in 0..ROWS {
            view.read_at(number * STRIDE, &mut found)?;
            let expected = self.row(frame, number);
            if found != expected {
                let at =
                    found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
                bail!("frame {frame}, row {number}, byte {at} is {}, expected {}", found[at], expected[at]);
            }
        }
        Ok(view.end()?)
    }

    fn row(&self, frame: u32, number: usize) -> [u8; STRIDE] {
        let phase = (frame as usize + number) % usize::from(u8::MAX);
        let mut row = [0; STRIDE];
        row.copy_from_slice(&self.ramp[phase..phase + STRIDE]);
        row[..4].copy_from_slice(&frame.to_le_bytes());
        row[STRIDE - 4..].copy_from_slice(&(number as u64).to_le_bytes()[..4]);
        row
    }
}
