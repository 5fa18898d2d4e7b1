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
//! With `--replace N` a thread allocates more buffers, and the producer puts one into the ring
//! after every N frames. Its descriptor is part of the message that announces its first frame. If
//! the service restarts, only this thread waits for it, and frames continue.
//!
//! It needs a running service: `cargo run --release --example camera_pipeline -- --socket
//! /run/anion/allocator.sock`. It exits with 1 if a single byte is wrong, if a frame is missing or
//! out of order, if the thread cannot allocate, or if the memory is not released.

#![forbid(unsafe_code)]

#[path = "camera_pipeline/messages.rs"]
mod messages;
#[path = "camera_pipeline/picture.rs"]
mod picture;

use anion_client::{Access, Buffer, Client, Endpoint, Mapping, Request, Settings};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use messages::{Announcement, receive, send};
use picture::Picture;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
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
/// Time that a call waits for a service that restarts: a busy machine may take long to start it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pass camera frames from one process to another in shared buffers, and check every byte
#[derive(Parser)]
struct Arguments {
    /// Connect to the service over this Unix socket [default: as anionctl]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Number of frames
    #[arg(long, value_name = "N", default_value_t = 120)]
    frames: u32,
    /// Continue after these frames until standard input is closed
    #[arg(long)]
    until_closed: bool,
    /// Draw at most N frames per second; 0 for as many as the consumer can check
    #[arg(long, value_name = "N", default_value_t = 0)]
    rate: u32,
    /// Replace a buffer of the ring after every N frames; 0 for never
    #[arg(long, value_name = "N", default_value_t = 0)]
    replace: u32,
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
    let client = Client::with(Settings { endpoint, patience: PATIENCE, ..Settings::default() })?;
    let before = held_bytes(&client)?;
    println!("service {}, {before} bytes held before", client.endpoint());

    // One batch: all buffers of one heap, or none.
    let request = Request::new(FRAME_BYTES as u64).count(u32::try_from(SLOTS)?).name("camera_pipeline");
    let buffers = client.allocate(&request)?;
    let heap = buffers.first().map(Buffer::heap).unwrap_or_default().to_owned();
    println!("allocated {SLOTS} NV12 buffers of {FRAME_BYTES} bytes from heap {heap}");
    let (ours, theirs) = UnixStream::pair()?;
    let mut consumer = start_consumer(theirs)?;
    let mut ring = Ring::new(ours, buffers)?;
    let (streamed, supplied) = thread::scope(|scope| {
        let (sender, spares) = sync_channel(0);
        let supplier = (arguments.replace > 0).then(|| scope.spawn(|| supply(&client, &request, sender)));
        let streamed = ring.stream(arguments, &spares);
        drop(spares);
        (streamed, supplier.map(thread::ScopedJoinHandle::join))
    });
    let Ring { slots, socket, .. } = ring;
    drop(socket);
    // The consumer ends with its socket; its error is reported before this process's own.
    let status = consumer.wait()?;
    ensure!(status.success(), "the consumer failed: {status}");
    let (correct, replaced) = streamed?;
    if let Some(supplied) = supplied {
        supplied.map_err(|_| anyhow::anyhow!("the thread that allocates panicked"))??;
    }
    println!(
        "{correct} frames arrived in order with every byte; {replaced} buffers were replaced; the service \
         was started again {} times",
        client.generation() - 1
    );

    print_accounts("both processes done, buffers still held by the producer", &client, &heap)?;
    drop(slots);
    let took = wait_for_release(&client, before)?;
    print_accounts(&format!("buffers released, noticed within {took:.1?}"), &client, &heap)
}

/// Allocates buffers one after the other, as the ring takes them, until the receiver is dropped.
fn supply(client: &Client, request: &Request, spares: SyncSender<Buffer>) -> Result<()> {
    loop {
        let spare = client.allocate_one(request).context("cannot allocate a buffer to replace another")?;
        if spares.send(spare).is_err() {
            return Ok(());
        }
    }
}

/// Executes this program again as the consumer: another process, which inherits only the socket.
fn start_consumer(socket: UnixStream) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("--consume")
        .stdin(OwnedFd::from(socket))
        .spawn()
        .context("cannot start the consumer")
}

/// The buffers that the two processes use in turn.
struct Ring {
    slots: Vec<Slot>,
    /// The slots that the consumer does not read.
    free: VecDeque<u8>,
    socket: UnixStream,
    /// Frames that the consumer found correct.
    correct: u32,
}

/// A buffer of the ring.
struct Slot {
    buffer: Buffer,
    map: Mapping,
    /// The buffer before it, until the consumer has this one. If the service is killed, the client
    /// presents both to the next service, so that the account is exact.
    replaced: Option<Buffer>,
}

impl Slot {
    fn new(buffer: Buffer) -> Result<Self> {
        Ok(Self { map: map(&buffer, Access::ReadWrite)?, buffer, replaced: None })
    }
}

impl Ring {
    /// Sends the buffers to the consumer.
    fn new(socket: UnixStream, buffers: Vec<Buffer>) -> Result<Self> {
        // A message with descriptors needs at least one byte of data.
        send(&socket, &[0], &buffers.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        let slots = buffers.into_iter().map(Slot::new).collect::<Result<Vec<_>>>()?;
        let free = (0..u8::try_from(slots.len())?).collect();
        Ok(Self { slots, free, socket, correct: 0 })
    }

    /// Draws every frame into a free slot and announces it; waits for a free slot if the consumer
    /// is slower. Returns the numbers of correct frames and of replaced buffers.
    fn stream(&mut self, arguments: &Arguments, spares: &Receiver<Buffer>) -> Result<(u32, u32)> {
        let picture = Picture::new();
        let mut progress = Progress::new(arguments);
        let has_end = if arguments.until_closed { input_end() } else { Arc::new(AtomicBool::new(true)) };
        let (mut frame, mut since, mut replaced) = (0, 0, 0);
        let start = Instant::now();
        while frame < arguments.frames || !has_end.load(Ordering::Relaxed) {
            let number = match self.free.pop_front() {
                Some(number) => number,
                None => self.read_freed(&mut progress)?,
            };
            if let Some(due) = (Duration::from_secs(1) * frame).checked_div(arguments.rate) {
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            let slot = &mut self.slots[usize::from(number)];
            since += 1;
            // While the service is away there is none, and the slot keeps its buffer.
            let spare = if since > arguments.replace { spares.try_recv().ok() } else { None };
            let is_new = spare.is_some();
            if let Some(spare) = spare {
                let new = Slot::new(spare)?;
                let Slot { buffer, .. } = std::mem::replace(slot, new);
                slot.replaced = Some(buffer);
                (since, replaced) = (1, replaced + 1);
            }
            picture.draw(&slot.map, frame)?;
            let new = is_new.then(|| slot.buffer.as_fd());
            Announcement { frame, slot: number }.send(&self.socket, new)?;
            frame += 1;
        }
        // The consumer has found every returned slot correct.
        while self.free.len() < self.slots.len() {
            let number = self.read_freed(&mut progress)?;
            self.free.push_back(number);
        }
        ensure!(self.correct == frame, "the consumer found {} of {frame} frames correct", self.correct);
        progress.end()?;
        Ok((self.correct, replaced))
    }

    /// Returns the next slot that the consumer has released.
    fn read_freed(&mut self, progress: &mut Progress) -> Result<u8> {
        let mut number = [0];
        self.socket.read_exact(&mut number).context("the consumer has closed its socket")?;
        let slot = self.slots.get_mut(usize::from(number[0]));
        let slot = slot.with_context(|| format!("slot {} was freed, but there are {SLOTS}", number[0]))?;
        slot.replaced = None;
        self.correct += 1;
        progress.advance(self.correct)?;
        Ok(number[0])
    }
}

/// Returns a flag that is set at the end of standard input.
fn input_end() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        set.store(true, Ordering::Relaxed);
    });
    flag
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

/// Prints the number of correct frames: on a terminal in one line that is rewritten, elsewhere in a
/// line from time to time.
struct Progress {
    frames: u32,
    /// Whether the number of frames is known.
    is_limited: bool,
    started: Instant,
    terminal: bool,
}

impl Progress {
    fn new(arguments: &Arguments) -> Self {
        let (frames, is_limited) = (arguments.frames, !arguments.until_closed);
        Self { frames, is_limited, started: Instant::now(), terminal: io::stdout().is_terminal() }
    }

    fn advance(&mut self, done: u32) -> io::Result<()> {
        let rate = f64::from(done) / self.started.elapsed().as_secs_f64();
        let of = if self.is_limited { format!("/{}", self.frames) } else { String::new() };
        let text = format!("frame {done}{of}, {rate:.0} per second");
        let is_last = self.is_limited && done == self.frames;
        let mut out = io::stdout();
        if self.terminal {
            write!(out, "\r{text}\x1b[K")?;
        } else if is_last || done.is_multiple_of(self.frames.div_ceil(4).max(1)) {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }

    fn end(&self) -> io::Result<()> {
        if self.terminal { writeln!(io::stdout()) } else { Ok(()) }
    }
}

// ---- The consumer
// -------------------------------------------------------------------------------------------

/// Receives the ring, then checks frame after frame until the producer closes the socket.
fn consume() -> Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (_, ring) = receive(&socket, &mut [0])?;
    ensure!(ring.len() == SLOTS, "received {} descriptors, expected {SLOTS}", ring.len());
    let maps = ring.iter().map(|fd| map(fd, Access::ReadOnly));
    let mut maps = maps.collect::<Result<Vec<_>>>()?;
    // Mappings hold the buffers as descriptors do.
    drop(ring);
    let picture = Picture::new();
    let mut expected = 0;
    while let Some((Announcement { frame, slot }, new)) = Announcement::receive(&socket)? {
        ensure!(frame == expected, "received frame {frame}, expected {expected}");
        let current = maps.get_mut(usize::from(slot)).context("a frame in a slot that does not exist")?;
        if let Some(new) = new {
            *current = map(new, Access::ReadOnly)?;
        }
        picture.verify(current, frame)?;
        socket.write_all(&[slot]).context("the producer has closed its socket")?;
        expected += 1;
    }
    Ok(())
}

// ---- Shared by both
// -----------------------------------------------------------------------------------------

/// Maps a buffer of the ring.
fn map(buffer: impl AsFd, access: Access) -> Result<Mapping> {
    Mapping::new(buffer, FRAME_BYTES, access).context("cannot map a buffer")
}
