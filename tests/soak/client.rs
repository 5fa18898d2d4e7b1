// SPDX-License-Identifier: Apache-2.0
//! One client process: runs random operations from its seed, and ends in one of several ways.

use crate::aidl;
use crate::buffer::{Held, Stamp};
use crate::sys::fork_holder;
use aidl::{
    Access::Access as AidlAccess, AllocationRequest::AllocationRequest, ErrorCode::ErrorCode,
    IHeapAllocator::IHeapAllocator,
};
use anion_ipc::{Connection, Endpoint, ParcelFileDescriptor, SERVICE_NAME, ServiceError, connect};
use anion_memory::Access;
use fastrand::Rng;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, alarm, getpid, setgid, setgroups, setuid};
use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::exit;
use std::time::Duration;

/// A client that has not ended after this time hangs. SIGALRM ends it, which is distinct from a
/// random death.
const LIFETIME_SECONDS: u32 = 600;
/// Most buffers that a client holds before it releases some.
const MAX_HELD: usize = 32;
/// Sizes that are requested often.
const FAVOURITES: [i64; 4] = [32 << 10, 48 << 10, 96 << 10, 256 << 10];
/// Most bytes of one buffer.
const MAX_BYTES: i64 = 2 << 20;
/// Most bytes of one request.
const MAX_BATCH_BYTES: i64 = 2 << 20;
/// Longest lifetime of a forked child, in milliseconds.
const MAX_FORK_MS: u64 = 40;

/// The orders of a client, which its process receives as text.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) seed: u64,
    pub(crate) operations: u64,
    /// The uid of the client.
    pub(crate) uid: u32,
    /// The endpoint of the service.
    pub(crate) endpoint: Endpoint,
}

impl Orders {
    pub(crate) fn to_text(&self) -> String {
        format!("{} {} {} {}", self.seed, self.operations, self.uid, self.endpoint)
    }

    fn from_text(text: &str) -> Self {
        let parts: Vec<&str> = text.splitn(4, ' ').collect();
        let [seed, operations, uid, endpoint] = parts[..] else { panic!("no orders: {text:?}") };
        Self {
            seed: seed.parse().expect("a seed"),
            operations: operations.parse().expect("a number"),
            uid: uid.parse().expect("a uid"),
            endpoint: endpoint.parse().expect("an endpoint"),
        }
    }
}

/// Runs as ordered, and ends. Standard input is the socket over which clients pass buffers to each
/// other.
pub(crate) fn live(orders: &str) {
    alarm::set(LIFETIME_SECONDS);
    let orders = Orders::from_text(orders);
    become_uid(orders.uid);
    let exchange = stdin().as_fd().try_clone_to_owned().expect("a socket");
    let mut client = Client {
        rng: Rng::with_seed(orders.seed),
        connection: connect(&orders.endpoint, SERVICE_NAME, 1).expect("the service answers"),
        exchange: exchange.into(),
        held: Vec::new(),
    };
    for _ in 0..orders.operations {
        client.step();
    }
    client.end();
}

fn become_uid(uid: u32) {
    if Uid::effective().as_raw() != uid {
        setgroups(&[]).expect("started by root");
        setgid(Gid::from_raw(uid)).expect("started by root");
        setuid(Uid::from_raw(uid)).expect("started by root");
    }
}

struct Client {
    rng: Rng,
    connection: Connection<dyn IHeapAllocator>,
    exchange: UnixDatagram,
    held: Vec<Held>,
}

impl Client {
    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..50 => self.allocate(),
            50..70 => self.release(4),
            70..78 => self.pass_on(),
            78..86 => self.receive(),
            86..91 => self.with_one(|_, held| held.duplicate().expect("descriptors are left")),
            91..94 => self.with_one(|_, held| held.open_again().expect("descriptors are left")),
            94..97 => self.with_one(|client, held| client.describe(held)),
            _ => self.fork(),
        }
        while self.held.len() > MAX_HELD {
            self.release(MAX_HELD);
        }
    }

    fn allocate(&mut self) {
        let request = self.request();
        match self.connection.service.allocate(&request) {
            Ok(allocation) => {
                assert_eq!(allocation.buffers.len(), usize::try_from(request.count).expect("small"));
                for buffer in allocation.buffers {
                    assert!(buffer.size >= request.size, "{buffer:?} is too small for {request:?}");
                    let bytes = usize::try_from(buffer.size).expect("a size of this machine");
                    let fd = buffer.fd.expect("every buffer has a descriptor");
                    self.take(Held::new(buffer.id, bytes, OwnedFd::from(fd)), request.access);
                }
            }
            // All clients of a uid share its quota, and all clients share the heaps.
            Err(status) => match ServiceError::of(&status) {
                Some(error)
                    if [ErrorCode::QUOTA_EXCEEDED.0, ErrorCode::NO_MEMORY.0].contains(&error.code) =>
                {
                    self.release(MAX_HELD);
                }
                _ => panic!("{request:?}: {status}"),
            },
        }
    }

    fn request(&mut self) -> AllocationRequest {
        let rng = &mut self.rng;
        let size = match rng.u8(0..10) {
            0..6 => FAVOURITES[rng.usize(..FAVOURITES.len())],
            6 => 4 << 10,
            7 => rng.i64(1..=64 << 10),
            _ => (4 << 10 << rng.u8(0..=10)).min(MAX_BYTES),
        };
        let most = (MAX_BATCH_BYTES / size).clamp(1, 64);
        let count = match rng.u8(0..10) {
            0..4 => 1,
            4..8 => rng.i64(1..=most.min(8)),
            _ => rng.i64(1..=most.min(32)),
        };
        // The first heap is never full. The others are at times, and then the service tries the
        // next one.
        let names: &[&str] = match rng.u8(0..10) {
            0..4 => &["system"],
            4..6 => &["direct"],
            6..8 => &["carveout", "chunks", "system"],
            8 => &["carveout"],
            _ => &["chunks"],
        };
        AllocationRequest {
            size,
            count: i32::try_from(count).expect("at most 32"),
            heapNames: names.iter().map(ToString::to_string).collect(),
            access: if rng.u8(0..8) == 0 { AidlAccess::READ_ONLY } else { AidlAccess::READ_WRITE },
            name: "soak".to_owned(),
            ..Default::default()
        }
    }

    /// Checks a new buffer and uses it.
    fn take(&mut self, mut held: Held, access: AidlAccess) {
        held.check_zero();
        let access = if access == AidlAccess::READ_ONLY { Access::ReadOnly } else { Access::ReadWrite };
        if self.rng.u8(0..4) != 0 {
            held.map(access).expect("address space is left");
            held.check_mapped_zero();
        }
        if access == Access::ReadWrite {
            let pages = match self.rng.u8(0..4) {
                0 => 0,
                1 => 3,
                _ => usize::MAX,
            };
            held.stamp(Stamp { word: self.rng.u64(1..), pages });
        }
        if self.rng.u8(0..4) == 0 {
            held.close_descriptors();
        }
        self.held.push(held);
    }

    /// Releases up to `most` buffers.
    fn release(&mut self, most: usize) {
        for _ in 0..self.rng.usize(1..=most) {
            let Some(held) = self.pick() else { return };
            held.check_stamp();
            if self.rng.u8(0..32) == 0
                && let Some(file) = held.file()
            {
                // The kernel refuses this while the buffer is mapped or open only for reading.
                let _ = fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
            }
        }
    }

    fn pick(&mut self) -> Option<Held> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(self.rng.usize(..count)))
    }

    fn with_one(&mut self, act: impl FnOnce(&Self, &mut Held)) {
        if let Some(mut held) = self.pick() {
            act(self, &mut held);
            self.held.push(held);
        }
    }

    /// Sends a buffer to the next reader, and keeps or closes it.
    fn pass_on(&mut self) {
        if let Some(held) = self.pick() {
            let is_gone = held.pass_on(&self.exchange).expect("the socket is open");
            if !is_gone || self.rng.bool() {
                self.held.push(held);
            }
        }
    }

    fn receive(&mut self) {
        if let Some(held) = Held::receive(&self.exchange).expect("the socket is open") {
            held.check_stamp();
            self.held.push(held);
        }
    }

    fn describe(&self, held: &Held) {
        let Some(file) = held.file() else { return };
        let copy = ParcelFileDescriptor::new(file.try_clone().expect("descriptors are left"));
        let info = self.connection.service.describe(&copy).expect("a live buffer is known");
        assert_eq!(info.size, i64::try_from(held.bytes).expect("small"), "{info:?}");
        // Buffers from another client come without their ids.
        assert!(held.id == 0 || held.id == info.id, "buffer {} is described as {info:?}", held.id);
    }

    /// Forks a child that inherits everything, and may outlive this process.
    fn fork(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        fork_holder(Duration::from_millis(self.rng.u64(0..=MAX_FORK_MS))).expect("a process can be made");
    }

    /// Ends cleanly, or without cleaning up, or by a signal.
    fn end(mut self) {
        match self.rng.u8(0..4) {
            0 => self.held.drain(..).for_each(|held| held.check_stamp()),
            // Closes the connection before the buffers.
            1 => {
                drop(self.connection);
                self.held.iter().for_each(Held::check_stamp);
            }
            2 => exit(0),
            _ => kill(getpid(), Signal::SIGKILL).expect("it is allowed"),
        }
    }
}
