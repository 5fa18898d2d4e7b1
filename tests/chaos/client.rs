// SPDX-License-Identifier: Apache-2.0
//! A client process: makes random calls for each order, then waits and keeps its buffers.

use crate::buffer::{Held, Stamp};
use anion_client::{Access, Client, Endpoint, Request, Reservation, Settings};
use anion_ipc::ParcelFileDescriptor;
use fastrand::Rng;
use nix::unistd::{Gid, Uid, alarm, setgid, setgroups, setuid};
use std::env;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;
use vendor_anion_allocator::aidl::vendor::anion::allocator::BufferInfo::BufferInfo;

/// The variables of a client: its uid, and the path of the socket.
pub(crate) const UID: &str = "ANION_CHAOS_UID";
pub(crate) const SOCKET: &str = "ANION_CHAOS_SOCKET";
/// The line that a client prints when it waits for the next order.
pub(crate) const WAITS: &str = "waits";

/// Seconds after the last order until a client ends, because it has lost its parent.
const LIFETIME_SECONDS: u32 = 600;
/// Most buffers that a client holds.
const MAX_HELD: usize = 24;
/// Longest wait of a call for a service that starts again.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAPS: [&str; 4] = ["system", "carveout", "chunks", "direct"];
const SIZES: [u64; 5] = [4096, 16 << 10, 64 << 10, 192 << 10, 1 << 20];

struct Life {
    rng: Rng,
    client: Client,
    held: Vec<Held>,
    reservation: Option<Reservation>,
    /// The number of the service to which the buffers were presented.
    generation: u64,
}

/// Executes the orders of standard input, lines of the form `SEED OPERATIONS`, until it ends.
///
/// # Panics
/// If a new buffer is not zero, or one changes while it is held.
pub(crate) fn live() {
    let socket = PathBuf::from(env::var(SOCKET).expect("a socket"));
    let uid: u32 = env::var(UID).expect("a uid").parse().expect("a number");
    if Uid::effective().as_raw() != uid {
        setgroups(&[]).expect("started by root");
        setgid(Gid::from_raw(uid)).expect("started by root");
        setuid(Uid::from_raw(uid)).expect("started by root");
    }
    let mut life = None;
    for line in io::stdin().lock().lines() {
        alarm::set(LIFETIME_SECONDS);
        let line = line.expect("text");
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [seed, operations] = numbers[..] else { panic!("no order: {line:?}") };
        if life.is_none() {
            life = connect(socket.clone()).map(Life::new);
        }
        if let Some(life) = &mut life {
            life.rng = Rng::with_seed(seed);
            (0..operations).for_each(|_| life.step());
            life.present();
        }
        println!("{WAITS}");
        io::stdout().flush().expect("the parent reads");
    }
    if let Some(life) = life {
        life.held.iter().for_each(Held::check_stamp);
    }
}

/// Connects; `None` if the service does not serve yet, or has no room for this uid.
fn connect(socket: PathBuf) -> Option<Client> {
    let endpoint = Some(Endpoint::Socket(socket));
    Client::with(Settings { endpoint, patience: PATIENCE, connections: 1 }).ok()
}

impl Life {
    fn new(client: Client) -> Self {
        let generation = client.generation();
        Self { rng: Rng::new(), client, held: Vec::new(), reservation: None, generation }
    }

    /// Makes one call, or releases a buffer. The result of a call depends on other processes: the
    /// service may refuse it, or may have ended.
    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..50 => self.allocate(),
            50..75 => self.release(),
            75..82 => self.describe(),
            82..86 => self.reservation = self.client.reserve("system", SIZES[2], 2).ok(),
            86..90 => self.reservation = None,
            90..94 => drop(self.client.explain(&Request::new(SIZES[4]).heap_mask(u32::MAX))),
            94..97 => self.dump(),
            _ => drop(self.client.watch_pressure()),
        }
        while self.held.len() > MAX_HELD {
            self.release();
        }
    }

    /// Presents all buffers to a service that has started since the last call. It must count each
    /// of them, unless it has ended again.
    fn present(&mut self) {
        // Detects that the service has ended.
        if self.client.pressure().is_err() || self.client.generation() == self.generation {
            return;
        }
        self.generation = self.client.generation();
        for file in self.held.iter().filter_map(Held::file) {
            let file = ParcelFileDescriptor::new(file.as_fd().try_clone_to_owned().expect("copied"));
            let counted = self.client.call(|service| service.adopt(&file, 0));
            if self.client.generation() != self.generation {
                return;
            }
            let id = counted.expect("a service of the same uid made it");
            let described = self.client.call(|service| service.describe(&file));
            let is_known = |info: &BufferInfo| {
                info.id == id && info.ownerUid.cast_unsigned() == Uid::effective().as_raw()
            };
            let has_ended = self.client.generation() != self.generation;
            assert!(has_ended || described.as_ref().is_ok_and(is_known), "{described:?}");
        }
    }

    fn allocate(&mut self) {
        let request = Request::new(SIZES[self.rng.usize(..SIZES.len())])
            .heap(HEAPS[self.rng.usize(..HEAPS.len())])
            .count(self.rng.u32(1..=4));
        for buffer in self.client.allocate(&request).into_iter().flatten() {
            let bytes = usize::try_from(buffer.bytes()).expect("small");
            let mut held = Held::new(0, bytes, buffer.into_fd());
            held.check_zero();
            if self.rng.bool() {
                held.map(Access::ReadWrite).expect("address space is left");
                held.check_mapped_zero();
            }
            held.stamp(Stamp { word: self.rng.u64(1..), pages: usize::MAX });
            if self.rng.u8(0..4) == 0 {
                held.close_descriptors();
            }
            self.held.push(held);
        }
    }

    fn release(&mut self) {
        if !self.held.is_empty() {
            let held = self.held.swap_remove(self.rng.usize(..self.held.len()));
            held.check_stamp();
        }
    }

    fn describe(&self) {
        if let Some(file) = self.held.first().and_then(Held::file) {
            // A service that was started again does not know it.
            let _ = self.client.describe(file);
        }
    }

    fn dump(&self) {
        let (mut reader, writer) = io::pipe().expect("descriptors are left");
        let writer = ParcelFileDescriptor::new(std::os::fd::OwnedFd::from(writer));
        let answer = self.client.call(|service| service.dumpTo(&writer, &[]));
        drop(writer);
        if answer.is_ok() {
            reader.read_to_end(&mut Vec::new()).expect("a pipe");
        }
    }
}
