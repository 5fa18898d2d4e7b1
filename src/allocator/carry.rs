// SPDX-License-Identifier: Apache-2.0
//! Carries live buffers over to the service that follows this one: it counts and describes them as
//! before.
//!
//! A service that ends passes on a description of each buffer ([`Held`]) and a descriptor of its
//! files ([`Carried`]). The next service checks both, charges the buffer to the same uid and
//! detects its release as for its own buffers. Limits do not apply, since the client holds the
//! buffer already. After the release the memory goes back to the kernel: it is never pooled.
//!
//! Not carried over: memory between two clients, reservations, and buffers whose release the kernel
//! does not report, since the token that owns them ends with the service.

use super::Allocator;
use super::hold::NotHeld;
use super::metadata::Graphic;
use super::registry::Record;
use crate::source::ReleaseMechanism;
use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes, Backing, BufferId, HeapName, Label, Uid};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The description of a buffer that clients hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its identity.
    pub id: BufferId,
    /// Name of the heap that made it.
    pub heap: HeapName,
    /// Its size.
    pub bytes: BackedBytes,
    /// The uid that is charged.
    pub uid: Uid,
    /// The process that allocated it, for display.
    pub pid: i32,
    /// Its label.
    pub label: Label,
    /// The image of the buffer, with the bytes of its metadata file.
    pub graphic: Option<(Graphic, BackedBytes)>,
    /// Kind of its memory.
    pub backing: Backing,
    /// Identity of its file.
    pub inode: Inode,
    /// Time since boot when it was allocated.
    pub created: Duration,
}

/// A buffer on its way from one service to the next.
#[derive(Debug)]
pub struct Carried {
    /// Its description.
    pub held: Held,
    /// A descriptor of its file.
    pub fd: OwnedFd,
    /// A descriptor of its metadata file, if it has one.
    pub metadata: Option<OwnedFd>,
}

impl Allocator {
    /// Serves no further call: calls that begin from now on wait until the process ends. Waits for
    /// running calls, at most for `patience`. Returns whether all have ended.
    pub fn stop_serving(&self, patience: Duration) -> bool {
        self.turns.stop(patience)
    }

    /// Returns the live buffers that the next service can take over, the oldest first. Each has
    /// descriptors of its own, which are opened when the iterator reaches it.
    pub fn carried(&self) -> impl Iterator<Item = Result<Carried, (BufferId, NotHeld)>> {
        let carried = |id| self.carry(id).transpose().map(|carried| carried.map_err(|why| (id, why)));
        self.live(None).flatten().filter_map(carried)
    }

    /// Opens descriptors of one buffer; `None` if it was released meanwhile.
    fn carry(&self, id: BufferId) -> Result<Option<Carried>, NotHeld> {
        let found = self.registry().live(id).map(|live| (live.record.clone(), live.inode, live.files()));
        let Some((record, inode, (stored, metadata))) = found else { return Ok(None) };
        let backing = stored.memory.backing();
        if ReleaseMechanism::of(backing) == ReleaseMechanism::Token {
            return Err(NotHeld::Kind(backing));
        }
        let memory = stored.memory.as_ref();
        // All descriptors of a dma-buf have the access with which it was made.
        let fd = memory.open(Access::ReadWrite).or_else(|error| match error.kind() {
            io::ErrorKind::Unsupported => memory.open(Access::ReadOnly),
            _ => Err(error),
        })?;
        let metadata = metadata.map(|metadata| metadata.open()).transpose()?;
        let Record { bytes, uid, pid, label, graphic, created, heap, .. } = record;
        let heap = self.heaps[heap].name().clone();
        let held = Held { id, heap, bytes, uid, pid, label, graphic, backing, inode, created };
        Ok(Some(Carried { held, fd, metadata }))
    }

    /// Takes over a buffer of an earlier service: counts it as held from now on.
    ///
    /// # Errors
    /// The reason why it is not taken over. Nothing is charged then.
    pub fn carry_over(&self, carried: Carried) -> Result<(), NotHeld> {
        let Carried { held, fd, metadata } = carried;
        let heap = self.heaps.iter().position(|heap| *heap.name() == held.heap);
        let heap = heap.ok_or_else(|| NotHeld::NoHeap(held.heap.clone()))?;
        let memory = self.open_again(fd, held.bytes, held.backing)?;
        let inode = memory.inode();
        if inode != held.inode {
            return Err(NotHeld::OtherFile { found: inode.number, expected: held.inode.number });
        }
        let metadata = metadata.zip(held.graphic).map(|(fd, (_, bytes))| (fd, bytes));
        let graphic = held.graphic.filter(|_| metadata.is_some());
        let record = Record {
            id: held.id,
            heap,
            bytes: held.bytes,
            uid: held.uid,
            pid: held.pid,
            label: held.label,
            graphic,
            inode: inode.number,
            created: held.created,
        };
        let id = held.id.0.saturating_add(1);
        self.next_id.fetch_max(id, Ordering::Relaxed);
        self.hold(record, memory, metadata)
    }
}
