// SPDX-License-Identifier: Apache-2.0
//! A client process: makes random calls for each order, then waits and keeps its buffers.

use crate::buffer::{Held, Stamp};
use crate::surroundings::OWN_MACHINE;
use anion_client::{Access, Backing, Client, Endpoint, Error, Refusal, Request, Reservation, Settings};
use anion_ipc::ParcelFileDescriptor;
use fastrand::Rng;
use nix::unistd::{Gid, Uid, alarm, setgid, setgroups, setuid};
use std::env;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// The variables of a client: its uid, the path of the socket, and the names of the heaps.
pub(crate) const UID: &str = "ANION_CHAOS_UID";
pub(crate) const SOCKET: &str = "ANION_CHAOS_SOCKET";
pub(crate) const HEAPS: &str = "ANION_CHAOS_HEAPS";
/// The first word of the line that a client prints when it waits for the next order. The numbers of
/// allocations that the service served and refused follow.
pub(crate) const WAITS: &str = "waits";

/// Seconds after the last order until a client ends, because it has lost its parent.
const LIFETIME_SECONDS: u32 = 600;
/// Most buffers that a client holds.
const MAX_HELD: usize = 24;
/// Longest wait of a call for a service that starts again.
const PATIENCE: Duration = Duration::from_secs(60);
const SIZES: [u64; 5] = [4096, 16 << 10, 64 << 10, 192 << 10, 1 << 20];

/// A buffer that a client holds.
struct Holding {
    held: Held,
    /// Whether each following service must count it.
    is_memfd: bool,
}

struct Life {
    rng: Rng,
    client: Client,
    heaps: Vec<String>,
    held: Vec<Holding>,
    /// Allocations of the present order that were served, and refused.
    served: u64,
    refused: u64,
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
    let heaps: Vec<String> = env::var(HEAPS).expect("heaps").split(',').map(str::to_owned).collect();
    let mut life: Option<Life> = None;
    for line in io::stdin().lock().lines() {
        alarm::set(LIFETIME_SECONDS);
        let line = line.expect("text");
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [seed, operations] = numbers[..] else { panic!("no order: {line:?}") };
        if life.is_none() {
            life = connect(socket.clone()).map(|client| Life::new(client, heaps.clone()));
        }
        let mut report = [0, 0];
        if let Some(life) = &mut life {
            life.rng = Rng::with_seed(seed);
            (life.served, life.refused) = (0, 0);
            (0..operations).for_each(|_| life.step());
            // Without operations, no resource of the service fails.
            life.present(operations == 0);
            report = [life.served, life.refused];
        }
        println!("{WAITS} {} {}", report[0], report[1]);
        io::stdout().flush().expect("the parent reads");
    }
    if let Some(life) = life {
        life.held.iter().for_each(|holding| holding.held.check_stamp());
    }
}

/// Connects; `None` if the service does not serve yet, or has no room for this uid.
fn connect(socket: PathBuf) -> Option<Client> {
    let endpoint = Some(Endpoint::Socket(socket));
    Client::with(Settings { endpoint, patience: PATIENCE, connections: 1 }).ok()
}

impl Life {
    fn new(client: Client, heaps: Vec<String>) -> Self {
        let (generation, held) = (client.generation(), Vec::new());
        let rng = Rng::new();
        Self { rng, client, heaps, held, served: 0, refused: 0, reservation: None, generation }
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

    /// Presents all memfds to a service that has started since the last call. It must count each
    /// of them, unless it has ended again. If `must_count` is false, resources of the service may
    /// fail; then the client presents all of them again with the next order.
    fn present(&mut self, must_count: bool) {
        // Detects that the service has ended.
        if self.client.pressure().is_err() || self.client.generation() == self.generation {
            return;
        }
        let generation = self.client.generation();
        let memfds = self.held.iter().filter(|holding| holding.is_memfd);
        for file in memfds.filter_map(|holding| holding.held.file()) {
            let counted = self.present_file(file, generation);
            if self.client.generation() != generation {
                return;
            }
            if let Err(error) = counted {
                let is_lack = error.refusal() == Some(Refusal::NoMemory);
                assert!(is_lack && !must_count, "a service of the same uid made it: {error}");
                return;
            }
        }
        self.generation = generation;
    }

    /// Presents one buffer and asks who owns it.
    fn present_file(&self, file: &File, generation: u64) -> Result<(), Error> {
        let file = ParcelFileDescriptor::new(file.as_fd().try_clone_to_owned().expect("copied"));
        let id = self.client.call(|service| service.adopt(&file, 0))?;
        let described = self.client.call(|service| service.describe(&file))?;
        let is_known = described.id == id && described.ownerUid.cast_unsigned() == Uid::effective().as_raw();
        let has_ended = self.client.generation() != generation;
        assert!(has_ended || is_known, "{described:?}, but its id is {id}");
        Ok(())
    }

    fn allocate(&mut self) {
        let request = Request::new(SIZES[self.rng.usize(..SIZES.len())])
            .heap(&self.heaps[self.rng.usize(..self.heaps.len())])
            .count(self.rng.u32(1..=4));
        let buffers = match self.client.allocate(&request) {
            Ok(buffers) => buffers,
            Err(error) => {
                check_refusal(&error);
                self.refused += 1;
                return;
            }
        };
        self.served += 1;
        for buffer in buffers {
            let is_memfd = buffer.backing() == Some(Backing::Memfd);
            let bytes = usize::try_from(buffer.bytes()).expect("small");
            let mut held = Held::new(0, bytes, buffer.into_fd());
            // A dma-buf can be read only through a mapping.
            if !is_memfd {
                held.map(Access::ReadWrite).expect("address space is left");
            }
            held.check_zero();
            if self.rng.bool() {
                held.map(Access::ReadWrite).expect("address space is left");
                held.check_mapped_zero();
            }
            held.stamp(Stamp { word: self.rng.u64(1..), pages: usize::MAX });
            if self.rng.u8(0..4) == 0 {
                held.close_descriptors();
            }
            self.held.push(Holding { held, is_memfd });
        }
    }

    fn release(&mut self) {
        if !self.held.is_empty() {
            let holding = self.held.swap_remove(self.rng.usize(..self.held.len()));
            holding.held.check_stamp();
        }
    }

    fn describe(&self) {
        if let Some(file) = self.held.first().and_then(|holding| holding.held.file()) {
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

/// Checks that an allocation failed for a reason that the client can act on.
///
/// # Panics
/// If the service reports a fault of its own or of the client, or gives no reason. A device's fault
/// is a reason where devices fail.
fn check_refusal(error: &Error) {
    let is_clear = match error {
        Error::Refused { refusal, message } => {
            let is_lack =
                matches!(refusal, Refusal::NoMemory | Refusal::QuotaExceeded | Refusal::Unsupported);
            // Devices fail only there.
            let is_of_device = *refusal == Refusal::Backend && env::var_os(OWN_MACHINE).is_some();
            (is_lack || is_of_device) && !message.is_empty()
        }
        // The service was killed, and the next one was killed as well.
        Error::Unreachable(_) => true,
        _ => false,
    };
    assert!(is_clear, "an allocation failed with {error}: {error:?}");
}
