// SPDX-License-Identifier: Apache-2.0
//! Carries live buffers over a restart, through the descriptors that systemd stores for a service
//! (`FileDescriptorStoreMax=`).
//!
//! A service that stops writes the descriptions of its buffers to a memfd (`state.rs`). It sends
//! their descriptors into sockets whose other ends nothing reads, so the kernel keeps them in
//! flight. systemd stores the memfd and these ends: a few descriptors for any number of buffers.
//! The next service, of the same or another version, gets them when it starts.
//!
//! Without systemd, or if the service ends in another way, nothing is stored.

pub(crate) mod state;

use super::passed::Passed;
use super::{descriptors, supervisor};
use crate::allocator::{Allocator, Carried, Held, NotHeld};
use crate::sys::clock::since_boot;
use crate::sys::fd;
use crate::units::BufferId;
use anyhow::{Context, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustutils::inherited_fd::take_fd_ownership;
use state::State;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Names of the stored descriptors.
pub(super) const STATE: &str = "anion-state";
pub(super) const BUFFERS: &str = "anion-buffers";
/// Most sockets. One takes the descriptors of some ten thousand buffers. With the memfd they need
/// `FileDescriptorStoreMax=` in the unit.
const MAX_SOCKETS: u64 = 4;
/// Descriptors of the process's limit for each socket: a service with few of them keeps them for
/// its clients.
const DESCRIPTORS_EACH: u64 = 256;
/// Bytes of messages that wait in one socket; the kernel limits it to `net.core.wmem_max`.
const QUEUE_BYTES: usize = 1 << 20;
/// Most bytes of a state that is read: about ten million buffers.
const MAX_STATE_BYTES: u64 = 1 << 30;
/// Time that a stop waits for running calls.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most buffers that the log names because they were not carried over.
const NAMED: usize = 8;

/// The sockets for descriptors, before they are stored.
pub(super) struct Store {
    pairs: Vec<(OwnedFd, OwnedFd)>,
}

/// The header of a message with descriptors.
struct Header {
    generation: u64,
    /// Index of the first buffer.
    first: u64,
}

impl Header {
    fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.first.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; 16]) -> Self {
        let (generation, first) = bytes.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        Self { generation: number(generation), first: number(first) }
    }
}

impl Store {
    /// Makes the sockets, if systemd started this process. Called before the seccomp filter
    /// applies. `None`, with a line in the log, if there are no descriptors for them.
    pub(super) fn open() -> Option<Self> {
        if !supervisor::stores() {
            return None;
        }
        let made = Self::make();
        let why = |error| log::warn!("a restart does not keep live buffers in the books: {error:#}");
        made.map_err(why).ok()
    }

    /// Makes the sockets.
    ///
    /// # Errors
    /// If the process's limit of descriptors is too low; as socketpair(2).
    fn make() -> anyhow::Result<Self> {
        let limit = fd::limit().context("cannot read the limit of descriptors")?;
        let count = (limit / DESCRIPTORS_EACH).min(MAX_SOCKETS);
        ensure!(count > 0, "RLIMIT_NOFILE is {limit}, but it must be at least {DESCRIPTORS_EACH}");
        let mut pairs = Vec::new();
        for _ in 0..count {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
            let (from, to) = pair.context("cannot make sockets for descriptors (socketpair)")?;
            set_socket_send_buffer_size(&from, QUEUE_BYTES).context("SO_SNDBUF")?;
            pairs.push((from, to));
        }
        Ok(Self { pairs })
    }

    /// Ends the service of the allocator and gives its live buffers to systemd, for the next
    /// service.
    pub(super) fn put(self, allocator: &Allocator) {
        // Sockets are closed. Over kernel binder, clients can call until the process ends.
        if !allocator.stop_serving(PATIENCE) {
            log::warn!("calls are still running after {PATIENCE:?}; their buffers are not carried over");
        }
        let generation = u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX);
        let mut sender = Sender { generation, pairs: &self.pairs, held: Vec::new(), lost: 0 };
        let mut batch = Batch::default();
        for carried in allocator.carried() {
            match carried {
                Ok(carried) => {
                    if !batch.has_room() {
                        sender.send(std::mem::take(&mut batch));
                    }
                    batch.add(carried);
                }
                Err((id, why)) => {
                    log::warn!("buffer {id} is not carried over to the next service: {why}");
                }
            }
        }
        sender.send(batch);
        let Sender { held, lost, .. } = sender;
        if lost > 0 {
            log::warn!(
                "{lost} buffers are not carried over to the next service: the queues of sockets are full"
            );
        }
        let count = held.len();
        match self.store(&State { generation, held }) {
            Ok(()) => log::info!("{count} live buffers are stored for the next service"),
            Err(error) => log::warn!("no buffer is carried over to the next service: {error:#}"),
        }
    }

    fn store(&self, state: &State) -> anyhow::Result<()> {
        let mut file = File::from(memfd_create(c"anion:state", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&state.encode()).context("cannot write the state")?;
        let ends: Vec<BorrowedFd<'_>> = self.pairs.iter().map(|(_, to)| to.as_fd()).collect();
        supervisor::store(STATE, &[file.as_fd()]).context("systemd")?;
        supervisor::store(BUFFERS, &ends).context("systemd")
    }
}

/// Buffers whose descriptors fit into one message.
#[derive(Default)]
struct Batch {
    held: Vec<Held>,
    fds: Vec<OwnedFd>,
}

impl Batch {
    /// Returns whether one more buffer with metadata fits.
    fn has_room(&self) -> bool {
        self.fds.len() + 2 <= descriptors::MOST
    }

    fn add(&mut self, carried: Carried) {
        let Carried { held, fd, metadata } = carried;
        self.held.push(held);
        self.fds.extend([fd].into_iter().chain(metadata));
    }
}

/// Sends descriptors into the sockets, one after the other.
struct Sender<'a> {
    generation: u64,
    /// The sockets that are not full.
    pairs: &'a [(OwnedFd, OwnedFd)],
    /// The buffers whose descriptors were sent.
    held: Vec<Held>,
    lost: usize,
}

impl Sender<'_> {
    fn send(&mut self, batch: Batch) {
        if batch.held.is_empty() {
            return;
        }
        let header = Header { generation: self.generation, first: self.held.len() as u64 };
        let fds: Vec<BorrowedFd<'_>> = batch.fds.iter().map(OwnedFd::as_fd).collect();
        while let Some((socket, _)) = self.pairs.first() {
            if descriptors::send(socket.as_fd(), &header.encode(), &fds).is_ok() {
                self.held.extend(batch.held);
                return;
            }
            self.pairs = &self.pairs[1..];
        }
        self.lost += batch.held.len();
    }
}

/// Receives one message; `None` after the last one.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Header, Vec<OwnedFd>)>> {
    let mut header = [0; 16];
    match descriptors::receive(socket, &mut header) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        received => {
            let (bytes, fds) = received?;
            Ok((bytes == header.len()).then(|| (Header::decode(header), fds)))
        }
    }
}

/// Counts the buffers of the previous service as held, and removes what systemd stored of it.
pub(super) fn take_over(passed: &Passed, allocator: &Allocator) {
    if passed.state.is_empty() && passed.buffers.is_empty() {
        return;
    }
    if let Err(error) = take(passed, allocator) {
        log::warn!("buffers of the previous service are not counted: {error:#}");
    }
    for name in [STATE, BUFFERS] {
        supervisor::forget_stored(name);
    }
}

fn take(passed: &Passed, allocator: &Allocator) -> anyhow::Result<()> {
    let sockets = passed.buffers.iter().map(|number| take_fd_ownership(*number));
    let sockets = sockets.collect::<Result<Vec<_>, _>>().context("a socket with descriptors")?;
    let [state] = passed.state[..] else {
        anyhow::bail!("systemd passed {} states, but a service stores one", passed.state.len());
    };
    let state = read(take_fd_ownership(state).context("the descriptor of the state")?)?;
    let mut outcome = Outcome::default();
    let mut without: Vec<Option<Held>> = state.held.into_iter().map(Some).collect();
    for socket in &sockets {
        while let Some((header, fds)) = receive(socket.as_fd()).context("cannot receive descriptors")? {
            if header.generation != state.generation {
                continue;
            }
            let first = usize::try_from(header.first).unwrap_or(usize::MAX);
            let mut fds = VecDeque::from(fds);
            for held in without.iter_mut().skip(first) {
                let Some(fd) = fds.pop_front() else { break };
                let Some(held) = held.take() else { continue };
                let metadata = if held.graphic.is_some() { fds.pop_front() } else { None };
                let (id, bytes) = (held.id, held.bytes.get());
                outcome.add(id, bytes, allocator.carry_over(Carried { held, fd, metadata }));
            }
        }
    }
    let lost = without.iter().flatten().count();
    ensure!(lost == 0, "{outcome}; of {lost} buffers the descriptors are missing");
    log::info!("{outcome}");
    Ok(())
}

fn read(state: OwnedFd) -> anyhow::Result<State> {
    let mut file = File::from(state);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.take(MAX_STATE_BYTES).read_to_end(&mut bytes))?;
    State::decode(&bytes).context("the state of the previous service")
}

/// The buffers that were carried over, and the others.
#[derive(Debug, Default)]
struct Outcome {
    buffers: usize,
    bytes: u64,
    refused: usize,
}

impl Outcome {
    fn add(&mut self, id: BufferId, bytes: u64, result: Result<(), NotHeld>) {
        match result {
            Ok(()) => {
                self.buffers += 1;
                self.bytes += bytes;
            }
            Err(why) => {
                self.refused += 1;
                if self.refused <= NAMED {
                    log::warn!("buffer {id} of the previous service is not counted: {why}");
                }
            }
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { buffers, bytes, refused } = self;
        write!(f, "{buffers} buffers of the previous service are counted, with {bytes} bytes")?;
        if *refused > 0 { write!(f, "; {refused} are not") } else { Ok(()) }
    }
}
