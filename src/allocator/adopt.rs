// SPDX-License-Identifier: Apache-2.0
//! Counts buffers again that clients have held since before the service started: an earlier
//! service ended without passing them on (`carry.rs`), and a client presents its descriptors.
//!
//! Only a file that an earlier service of the same uid made is accepted. The kernel proves that:
//! the file is a memfd whose owner is the service's uid, with the seals of a buffer, and its name,
//! which no process can change, has the heap. A client's own file has another owner. dma-bufs have
//! no owner, and any holder can set their name, so they are not accepted.

use super::hold::NotHeld;
use super::registry::Record;
use super::{Allocator, Caller};
use crate::ledger::Refusal;
use crate::source::is_exhaustion;
use crate::sys;
use crate::sys::clock::since_boot;
use crate::units::{BackedBytes, Backing, BufferId, HeapName, Label, RequestedBytes};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

/// The beginning of the names of buffers' files.
const NAME: &str = "anion:";

/// Reason why a file is not counted.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// No service of this uid made it as a buffer.
    #[error("the descriptor is not a buffer of an earlier service: {0}")]
    NotOurs(String),
    /// It is a live buffer of another uid.
    #[error("the buffer is charged to another uid")]
    OfAnother,
    /// The service cannot hold more buffers.
    #[error(transparent)]
    Full(Refusal),
    /// Descriptors or objects of the kernel have run out.
    #[error("the service has no descriptors to count the buffer: {0}")]
    Exhausted(io::Error),
    /// The kernel failed.
    #[error("cannot open the buffer again: {0}")]
    Io(io::Error),
}

impl From<io::Error> for NotAdopted {
    fn from(error: io::Error) -> Self {
        if is_exhaustion(&error) { Self::Exhausted(error) } else { Self::Io(error) }
    }
}

impl From<NotHeld> for NotAdopted {
    fn from(why: NotHeld) -> Self {
        match why {
            NotHeld::Io(error) if error.kind() != io::ErrorKind::PermissionDenied => error.into(),
            other => Self::NotOurs(other.to_string()),
        }
    }
}

/// The parts of a buffer's file that prove its origin.
struct Origin {
    heap: HeapName,
    label: Label,
    bytes: BackedBytes,
    backing: Backing,
}

impl Allocator {
    /// Charges a buffer of an earlier service to `caller`, and detects its release from now on. The
    /// buffer gets the `id` that the earlier service gave it, if no other buffer has it; else a new
    /// one, which is returned. A live buffer of the caller keeps its id. The caller's quota and the
    /// heap's room do not apply: the caller holds the memory already.
    ///
    /// # Errors
    /// The reason why the file is not counted. Nothing is charged then.
    pub fn adopt(&self, caller: &Caller, fd: impl AsFd, id: BufferId) -> Result<BufferId, NotAdopted> {
        let _turn = self.turns.take(caller.uid);
        let fd = fd.as_fd();
        self.work_off_events();
        if let Some(live) = self.owned(caller, fd) {
            return live;
        }
        let origin = origin(fd)?;
        let heap = self.find_heap(origin.heap.as_str());
        let heap = heap.ok_or_else(|| NotHeld::NoHeap(origin.heap.clone()))?;
        let own = fd.try_clone_to_owned()?;
        let memory = self.open_again(own, origin.bytes, origin.backing)?;
        let record = Record {
            id: self.id_for(id),
            heap,
            bytes: origin.bytes,
            uid: caller.uid,
            pid: caller.pid,
            label: origin.label,
            graphic: None,
            inode: memory.inode().number,
            created: since_boot(),
        };
        if let Err(full @ Refusal::ServiceFull { .. }) = self.registry().ledger.check(&record.claim()) {
            return Err(NotAdopted::Full(full));
        }
        let id = record.id;
        match self.hold(record, memory, None) {
            // Another thread presented it at the same time.
            Err(NotHeld::Known) => self.owned(caller, fd).unwrap_or(Err(NotHeld::Known.into())),
            held => Ok(held.map(|()| id)?),
        }
    }

    /// Returns the id of the live buffer with this file, if the caller owns it; `None` if the file
    /// is no live buffer.
    fn owned(&self, caller: &Caller, fd: BorrowedFd<'_>) -> Option<Result<BufferId, NotAdopted>> {
        let record = self.describe(fd).ok()?.record;
        Some(if record.uid == caller.uid { Ok(record.id) } else { Err(NotAdopted::OfAnother) })
    }

    /// Returns `id` if an earlier service can have used it and no live buffer has it; else a new
    /// id.
    fn id_for(&self, id: BufferId) -> BufferId {
        let is_old = (1..self.first_id).contains(&id.0);
        if is_old && self.registry().live(id).is_none() {
            return id;
        }
        BufferId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

/// Reads the origin of a file. Only the kernel answers, so a hostile file cannot block.
fn origin(fd: BorrowedFd<'_>) -> Result<Origin, NotAdopted> {
    let not_ours = |why: &str| NotAdopted::NotOurs(why.to_owned());
    if !sys::memfd::is_sealed(fd) {
        return Err(not_ours("it is no memfd with the seals of a buffer"));
    }
    let name = sys::fd::memfd_name(fd)?;
    let name = name.as_deref().and_then(|name| name.strip_prefix(NAME));
    let (heap, label) = name
        .map(|name| name.split_once(':').unwrap_or((name, "")))
        .ok_or_else(|| not_ours("its name is not that of a buffer"))?;
    let invalid = |error: crate::units::Invalid| NotAdopted::NotOurs(error.to_string());
    let (heap, label) = (HeapName::new(heap).map_err(invalid)?, Label::new(label).map_err(invalid)?);
    let (size, _) = sys::fd::size_and_owner(fd)?;
    let bytes = RequestedBytes(i64::try_from(size).unwrap_or(i64::MAX)).round_up(1).map_err(invalid)?;
    let is_huge = sys::memfd::has_huge_pages(fd)?;
    let backing = if is_huge { Backing::Hugetlb } else { Backing::Memfd };
    Ok(Origin { heap, label, bytes, backing })
}
