// SPDX-License-Identifier: Apache-2.0
//! A client process: makes every kind of call. A lenient one tolerates errors of the service.

use crate::common::eventually;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::{
    allocator::{BufferDescriptorInfo::BufferDescriptorInfo, IAllocator::IAllocator},
    common::PixelFormat::PixelFormat,
};
use anion_client::{Access, Buffer, Client, CpuAccess, Endpoint, Mapping, Request, Settings};
use anion_ipc::{Connection, ParcelFileDescriptor, connect};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use std::{fmt, thread};

/// Size of buffers that the service zeroes in its call when it recycles them.
const LARGE: u64 = 128 << 10;
/// Number of connections that a lenient client makes.
const CONNECTS: usize = 100;
/// Number of times that a client asks whether a reservation is ready.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A client, and whether it is strict.
pub(crate) struct Workload<'a> {
    socket: &'a Path,
    is_strict: bool,
}

impl<'a> Workload<'a> {
    pub(crate) fn new(socket: &'a Path, is_strict: bool) -> Self {
        Self { socket, is_strict }
    }

    /// Makes every kind of call.
    ///
    /// # Panics
    /// If a new buffer is not zero or changes while it is held; if a call of a strict client fails.
    pub(crate) fn run(&self) {
        let Some(client) = self.connect() else { return };
        for _ in 0..3 {
            self.allocate(&client, &Request::new(4096).heap("system").count(3));
            self.allocate(&client, &Request::new(LARGE).heap("system").count(2));
            self.allocate(&client, &Request::new(LARGE).heap("carveout").count(2));
            self.allocate(&client, &Request::new(LARGE).heap("direct").heap("system"));
        }
        self.judge("reserve", self.reserve(&client));
        self.judge("explain", client.explain(&Request::new(1 << 40)));
        self.judge("heaps", client.heaps());
        self.judge("getStats", client.call(|service| service.getStats()));
        self.judge("getUsage", client.call(|service| service.getUsage()));
        self.judge("trim", client.call(|service| service.trim("system", 1 << 20)));
        self.judge("watch_pressure", client.watch_pressure());
        self.judge("dumpTo", dump(&client));
        self.judge("allocate2", self.image());
        if !self.is_strict {
            self.crowd();
        }
    }

    fn judge<T, E: fmt::Display>(&self, what: &str, answer: Result<T, E>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) if self.is_strict => panic!("{what}: {error}"),
            Err(_) => None,
        }
    }

    /// Connects, after the service's socket is in place again.
    fn connect(&self) -> Option<Client> {
        let attempt = || {
            Client::with(Settings {
                endpoint: Some(Endpoint::Socket(self.socket.to_owned())),
                patience: Duration::ZERO,
                connections: 1,
            })
            .ok()
        };
        let mut client = attempt();
        if self.is_strict {
            eventually("the service accepts a client", || {
                client = client.take().or_else(attempt);
                client.is_some()
            });
        }
        for _ in 0..CONNECTS {
            if client.is_none() {
                thread::sleep(PAUSE);
                client = attempt();
            }
        }
        client
    }

    /// Allocates buffers, checks that they are zero, uses them, and checks that no other process
    /// changed them.
    fn allocate(&self, client: &Client, request: &Request) {
        let Some(buffers) = self.judge("allocate", client.allocate(request)) else { return };
        let stamp = |buffer: &Buffer| buffer.id().to_string().into_bytes();
        let mappings: Vec<Mapping> = buffers.iter().map(map_zeroed).collect();
        for (buffer, mapping) in buffers.iter().zip(&mappings) {
            let view = mapping.begin(CpuAccess::Write).expect("ordinary memory");
            view.fill(1).expect("inside");
            view.write_at(0, &stamp(buffer)).expect("inside");
            self.judge("describe", client.describe(buffer));
        }
        for (buffer, mapping) in buffers.iter().zip(&mappings) {
            let mut found = stamp(buffer);
            let view = mapping.begin(CpuAccess::Read).expect("ordinary memory");
            view.read_at(0, &mut found).expect("inside");
            assert_eq!(found, stamp(buffer), "buffer {} has the bytes of another", buffer.id());
        }
    }

    /// Reserves buffers, waits until they are made or a call fails, and takes one.
    fn reserve(&self, client: &Client) -> Result<(), anion_client::Error> {
        let reservation = client.reserve("system", LARGE, 2)?;
        for _ in 0..LOOKS {
            if reservation.ready()? == 2 {
                break;
            }
            thread::sleep(PAUSE);
        }
        self.allocate(client, &Request::new(LARGE).heap("system"));
        Ok(())
    }

    /// Opens more connections than its uid may have. The service refuses some, with descriptors in
    /// their queues.
    fn crowd(&self) {
        let streams: Vec<_> = (0..24).filter_map(|_| UnixStream::connect(self.socket).ok()).collect();
        let copies = [io::stdin().as_raw_fd()];
        for stream in &streams {
            // Fails if the service has already refused it.
            let control = [ControlMessage::ScmRights(&copies)];
            let bytes = [IoSlice::new(b"x")];
            let _ = sendmsg::<()>(stream.as_raw_fd(), &bytes, &control, MsgFlags::MSG_NOSIGNAL, None);
        }
    }

    /// Allocates an image.
    fn image(&self) -> Result<(), String> {
        let endpoint = Endpoint::Socket(self.socket.with_file_name("graphics.sock"));
        let graphics: Connection<dyn IAllocator> =
            connect(&endpoint, "", 1).map_err(|error| error.to_string())?;
        let mut descriptor =
            BufferDescriptorInfo { width: 64, height: 64, layerCount: 1, ..Default::default() };
        descriptor.name[..5].copy_from_slice(b"image");
        descriptor.format = PixelFormat::RGBA_8888;
        // The CPU reads and writes often.
        descriptor.usage.0 = 0x33;
        let result = graphics.service.allocate2(&descriptor, 2).map_err(|error| error.to_string())?;
        for handle in result.buffers {
            let pixels = OwnedFd::from(handle.fds.into_iter().next().expect("it has descriptors"));
            let mut row = [1; 256];
            File::from(pixels).read_exact_at(&mut row, 0).expect("an image has rows");
            assert_eq!(row, [0; 256], "a new image is not zero");
        }
        Ok(())
    }
}

/// Maps a new buffer, and checks that every byte is zero.
fn map_zeroed(buffer: &Buffer) -> Mapping {
    let mapping = buffer.map(Access::ReadWrite).expect("a new buffer can be mapped");
    let view = mapping.begin(CpuAccess::Read).expect("ordinary memory");
    assert!(view.is_zero().expect("readable"), "new buffer {} is not zero", buffer.id());
    drop(view);
    mapping
}

/// Reads a dump to its end.
fn dump(client: &Client) -> Result<(), String> {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let writer = ParcelFileDescriptor::new(OwnedFd::from(writer));
    let answer = client.call(|service| service.dumpTo(&writer, &["--json".to_owned()]));
    drop(writer);
    reader.read_to_end(&mut Vec::new()).expect("a pipe");
    answer.map_err(|error| error.to_string())
}
