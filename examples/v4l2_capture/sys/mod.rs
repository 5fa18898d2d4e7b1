// SPDX-License-Identifier: Apache-2.0
//! A V4L2 camera (`include/uapi/linux/videodev2.h`) that fills dma-bufs.
//!
//! The structures have the kernel's layout on this machine; none that is used here contains a
//! pointer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`.
const CAPTURE: u32 = 1;
/// `V4L2_MEMORY_DMABUF`.
const DMA_BUF: u32 = 4;
/// `V4L2_CAP_VIDEO_CAPTURE` and `V4L2_CAP_STREAMING`.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0400_0000;
/// `V4L2_CTRL_FLAG_NEXT_CTRL`.
const NEXT_CONTROL: u32 = 0x8000_0000;
/// `V4L2_BUF_FLAG_ERROR`.
const DAMAGED: u32 = 0x40;
/// `V4L2_PIX_FMT_XBGR32`, which is `XRGB8888` in DRM: a byte each of blue, green, red, and an
/// unused one.
const FORMAT: u32 = u32::from_le_bytes(*b"XR24");

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Default)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus: [u8; 32],
    version: u32,
    capabilities: u32,
    /// Capabilities of this node of the device.
    of_node: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_pix_format` in the union of `struct v4l2_format`, whose other members determine its
/// alignment.
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(8)))]
struct Pixels {
    width: u32,
    height: u32,
    format: u32,
    field: u32,
    row_bytes: u32,
    frame_bytes: u32,
    rest: [u32; 44],
}

/// `struct v4l2_format`.
#[repr(C)]
struct Format {
    kind: u32,
    pixels: Pixels,
}

/// `struct v4l2_streamparm` of a capture.
#[repr(C)]
struct Rate {
    kind: u32,
    capability: u32,
    mode: u32,
    numerator: u32,
    denominator: u32,
    rest: [u32; 46],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
struct Buffers {
    count: u32,
    kind: u32,
    memory: u32,
    rest: [u32; 2],
}

/// `struct v4l2_buffer`.
#[repr(C)]
struct Slot {
    index: u32,
    kind: u32,
    used: u32,
    flags: u32,
    field: u32,
    time: libc::timeval,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    fd: Descriptor,
    length: u32,
    rest: [u32; 2],
}

/// The union in it, with the size of an address.
#[repr(C)]
union Descriptor {
    fd: RawFd,
    address: libc::c_ulong,
}

/// `struct v4l2_queryctrl`.
#[repr(C)]
#[derive(Default)]
struct Control {
    id: u32,
    kind: u32,
    name: [u8; 32],
    minimum: i32,
    maximum: i32,
    rest: [u32; 5],
}

/// `struct v4l2_querymenu`, which the kernel packs.
#[repr(C)]
#[derive(Default)]
struct Choice {
    id: u32,
    index: u32,
    name: [u8; 32],
    reserved: u32,
}

/// `struct v4l2_control`.
#[repr(C)]
struct Value {
    id: u32,
    value: i32,
}

// The kernel's sizes on 64-bit machines, which are parts of the request numbers.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Capability>() == 104 && size_of::<Format>() == 208 && size_of::<Rate>() == 204);
    assert!(size_of::<Buffers>() == 20 && size_of::<Slot>() == 88 && size_of::<Control>() == 68);
    assert!(size_of::<Choice>() == 44 && size_of::<Value>() == 8);
    assert!(std::mem::offset_of!(Format, pixels) == 8 && std::mem::offset_of!(Slot, time) == 24);
    assert!(std::mem::offset_of!(Slot, sequence) == 56 && std::mem::offset_of!(Slot, fd) == 64);
};

nix::ioctl_read!(query_capability, b'V', 0, Capability);
nix::ioctl_readwrite!(set_format, b'V', 5, Format);
nix::ioctl_readwrite!(request_buffers, b'V', 8, Buffers);
nix::ioctl_readwrite!(queue_buffer, b'V', 15, Slot);
nix::ioctl_readwrite!(dequeue_buffer, b'V', 17, Slot);
nix::ioctl_write_ptr!(stream_on, b'V', 18, libc::c_int);
nix::ioctl_write_ptr!(stream_off, b'V', 19, libc::c_int);
nix::ioctl_readwrite!(set_rate, b'V', 22, Rate);
nix::ioctl_readwrite!(set_control, b'V', 28, Value);
nix::ioctl_readwrite!(query_control, b'V', 36, Control);
nix::ioctl_readwrite!(query_menu, b'V', 37, Choice);

/// The format that a camera accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Pixels of a row.
    pub(super) width: usize,
    /// Rows of a frame.
    pub(super) height: usize,
    /// Bytes from one row to the next.
    pub(super) row_bytes: usize,
    /// Bytes of a frame.
    pub(super) frame_bytes: usize,
}

/// A frame in a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Its number, by the camera's clock. Numbers of frames for which it had no buffer are missing.
    pub(super) sequence: u32,
    /// The buffer.
    pub(super) index: usize,
    /// Bytes that were written.
    pub(super) bytes: usize,
    /// Whether the camera reports the frame as damaged.
    pub(super) is_damaged: bool,
}

/// An open camera. Closing it stops the stream and releases its buffers.
#[derive(Debug)]
pub(super) struct Camera(File);

impl Camera {
    /// Opens a video device.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_NONBLOCK;
        Ok(Self(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?))
    }

    fn raw(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    /// Returns the name of its driver, and whether it can stream captured frames.
    ///
    /// # Errors
    /// `ENOTTY` if it is no video device.
    pub(super) fn driver(&self) -> io::Result<(String, bool)> {
        let mut found = Capability::default();
        // SAFETY: the kernel writes one structure of this size, which lives on this stack; the
        // descriptor is open as long as `self` is.
        repeat(|| unsafe { query_capability(self.raw(), &raw mut found) })?;
        Ok((text(&found.driver), found.of_node & CAPABILITIES == CAPABILITIES))
    }

    /// Sets a control to a value, both by name. Returns whether both exist.
    ///
    /// # Errors
    /// `EBUSY` if another program uses the camera.
    pub(super) fn choose(&self, control: &str, value: &str) -> io::Result<bool> {
        let mut found = Control { id: NEXT_CONTROL, ..Control::default() };
        // SAFETY: the kernel reads and writes one structure of this size, which lives on this
        // stack; the descriptor is open as long as `self` is.
        while repeat(|| unsafe { query_control(self.raw(), &raw mut found) }).is_ok() {
            if text(&found.name) == control {
                return self.choose_of(&found, value);
            }
            found.id |= NEXT_CONTROL;
        }
        Ok(false)
    }

    fn choose_of(&self, control: &Control, value: &str) -> io::Result<bool> {
        for number in control.minimum..=control.maximum {
            let mut choice = Choice { id: control.id, index: number.cast_unsigned(), ..Choice::default() };
            // SAFETY: the kernel reads and writes one structure of this size, which lives on this
            // stack; the descriptor is open as long as `self` is.
            let is_there = repeat(|| unsafe { query_menu(self.raw(), &raw mut choice) }).is_ok();
            if is_there && text(&choice.name) == value {
                let mut wanted = Value { id: control.id, value: number };
                // SAFETY: as above.
                repeat(|| unsafe { set_control(self.raw(), &raw mut wanted) })?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Requests frames with four bytes per pixel (blue, green, red, unused) of about this size and
    /// rate. Returns the format that the camera accepted.
    ///
    /// # Errors
    /// `EBUSY` if another program uses the camera; `Unsupported` if it has no such pixel format.
    pub(super) fn set(&self, width: u32, height: u32, per_second: u32) -> io::Result<Layout> {
        let pixels =
            Pixels { width, height, format: FORMAT, field: 0, row_bytes: 0, frame_bytes: 0, rest: [0; 44] };
        let mut format = Format { kind: CAPTURE, pixels };
        // SAFETY: the kernel reads and writes one structure of this size, which lives on this
        // stack; the descriptor is open as long as `self` is.
        repeat(|| unsafe { set_format(self.raw(), &raw mut format) })?;
        let mut rate = Rate {
            kind: CAPTURE,
            capability: 0,
            mode: 0,
            numerator: 1,
            denominator: per_second,
            rest: [0; 46],
        };
        // SAFETY: as above.
        repeat(|| unsafe { set_rate(self.raw(), &raw mut rate) })?;
        let pixels = format.pixels;
        if pixels.format != FORMAT {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it has no pixels of the format XR24"));
        }
        let [width, height, row_bytes, frame_bytes] =
            [pixels.width, pixels.height, pixels.row_bytes, pixels.frame_bytes].map(|value| value as usize);
        Ok(Layout { width, height, row_bytes, frame_bytes })
    }

    /// Announces the number of dma-bufs; 0 makes the camera release those that it has. Returns the
    /// number that it requires.
    ///
    /// # Errors
    /// `EINVAL` if it does not support dma-bufs; `EBUSY` if another program uses the camera.
    pub(super) fn expect_buffers(&self, count: u32) -> io::Result<u32> {
        let mut wanted = Buffers { count, kind: CAPTURE, memory: DMA_BUF, rest: [0; 2] };
        // SAFETY: the kernel reads and writes one structure of this size, which lives on this
        // stack; the descriptor is open as long as `self` is.
        repeat(|| unsafe { request_buffers(self.raw(), &raw mut wanted) })?;
        Ok(wanted.count)
    }

    /// Queues a buffer to be filled. The camera holds its memory until it is closed, or expects
    /// other buffers.
    ///
    /// # Errors
    /// `EINVAL` if the descriptor is no dma-buf (such as a memfd), or too small for a frame.
    pub(super) fn queue(&self, index: usize, buffer: BorrowedFd<'_>) -> io::Result<()> {
        let mut slot = slot(u32::try_from(index).unwrap_or(u32::MAX), buffer.as_raw_fd());
        // SAFETY: the kernel reads and writes one structure of this size, which lives on this
        // stack; both descriptors are open as long as they are borrowed. The camera writes to
        // shared memory, to which no reference exists.
        repeat(|| unsafe { queue_buffer(self.raw(), &raw mut slot) })
    }

    /// Waits for a frame.
    ///
    /// # Errors
    /// `TimedOut` if none arrives within `patience`; otherwise the camera's error.
    pub(super) fn dequeue(&self, patience: Duration) -> io::Result<Frame> {
        let deadline = Instant::now() + patience;
        let mut slot = slot(0, 0);
        loop {
            // SAFETY: the kernel reads and writes one structure of this size, which lives on this
            // stack; the descriptor is open as long as `self` is.
            match repeat(|| unsafe { dequeue_buffer(self.raw(), &raw mut slot) }) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(deadline)?,
                Err(error) => return Err(error),
            }
        }
        Ok(Frame {
            sequence: slot.sequence,
            index: slot.index as usize,
            bytes: slot.used as usize,
            is_damaged: slot.flags & DAMAGED != 0,
        })
    }

    /// Waits until there may be a frame.
    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the stream.
    ///
    /// # Errors
    /// `EINVAL` if no buffers were announced.
    pub(super) fn start(&self) -> io::Result<()> {
        let kind = CAPTURE.cast_signed();
        // SAFETY: the kernel reads one integer, which lives on this stack; the descriptor is open
        // as long as `self` is.
        repeat(|| unsafe { stream_on(self.raw(), &raw const kind) })
    }

    /// Stops the stream. The camera keeps its buffers until it expects others.
    ///
    /// # Errors
    /// The camera's error.
    pub(super) fn stop(&self) -> io::Result<()> {
        let kind = CAPTURE.cast_signed();
        // SAFETY: the kernel reads one integer, which lives on this stack; the descriptor is open
        // as long as `self` is.
        repeat(|| unsafe { stream_off(self.raw(), &raw const kind) })
    }
}

/// Returns the description of a buffer, which is passed to the camera or filled in by it.
fn slot(index: u32, fd: RawFd) -> Slot {
    let time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut descriptor = Descriptor { address: 0 };
    descriptor.fd = fd;
    Slot {
        index,
        kind: CAPTURE,
        used: 0,
        flags: 0,
        field: 0,
        time,
        timecode: [0; 4],
        sequence: 0,
        memory: DMA_BUF,
        fd: descriptor,
        length: 0,
        rest: [0; 2],
    }
}

/// Repeats a call that a signal interrupted.
fn repeat(mut call: impl FnMut() -> nix::Result<libc::c_int>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Returns a text that ends with a NUL byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
