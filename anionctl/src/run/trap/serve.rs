// SPDX-License-Identifier: Apache-2.0
//! Answers calls in a few threads, each one call at a time.
//!
//! The thread with the [`Turn`] waits for the next call. It leaves calls that name no node to the
//! kernel, on the processor of the caller, and answers the others itself.

use super::caller::{Caller, LastProcess, Subject};
use super::calls::{self, Call, Flags, Named};
use super::status::{self, Entry};
use super::sys::{Answer, Listener, Notification};
use super::turn::Turn;
use anion_nodes::{DMA_HEAPS, ION, Node, NodeStatus, Nodes, OpenNode, Program};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, Whence, access, lseek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The state that the threads share.
pub(super) struct Server {
    listener: Listener,
    turn: Turn,
    /// The process that made the last call about a descriptor of a node.
    process: LastProcess,
    nodes: Nodes,
    /// Serves Anion's device nodes also if the machine has its own.
    forced: bool,
}

/// A call for a node.
struct Work<'a> {
    id: u64,
    caller: Caller<'a>,
    asked: Call,
    subject: Subject,
}

impl Server {
    /// Returns a server for the calls of `listener`. If the machine has a node that this process
    /// may open, programs get that node, unless `forced`.
    ///
    /// # Errors
    /// As eventfd(2).
    pub(super) fn new(listener: Listener, nodes: Nodes, forced: bool) -> Result<Self, Errno> {
        Ok(Self { listener, turn: Turn::new()?, process: LastProcess::default(), nodes, forced })
    }

    /// Answers calls until no process has the filter.
    pub(super) fn serve(&self) {
        loop {
            self.turn.take();
            loop {
                let Some(work) = self.next() else { return };
                let turn = self.turn.begin();
                // If the call no longer waits, nothing is lost: the new buffer has been dropped.
                let _ = self.answer(&work);
                drop(work);
                if !self.turn.end(turn) {
                    break;
                }
            }
        }
    }

    /// Returns the next call for a node, and leaves all calls before it to the kernel. `None` if no
    /// process has the filter. The calling thread has the turn.
    fn next(&self) -> Option<Work<'_>> {
        loop {
            match self.listener.receive() {
                Ok(call) => match self.work(&call) {
                    Some(work) => return Some(work),
                    None => drop(self.listener.answer(call.id, Answer::Untouched)),
                },
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) if !self.is_unused() => {}
                Err(error) => {
                    log::debug!("no more calls: {error}");
                    return None;
                }
            }
        }
    }

    /// Decodes a call that may concern a node; `None` if it concerns no node that is served.
    fn work(&self, call: &Notification) -> Option<Work<'_>> {
        let asked = calls::decode(call.number, &call.arguments)?;
        let caller = Caller::of(&self.listener, &self.process, call)?;
        let subject = subject(&caller, &asked)?;
        let node = match &subject {
            Subject::Path(node) => Some(*node),
            Subject::Devices => Some(Node::DmaHeapDirectory),
            Subject::Descriptor(_) => None,
        };
        let is_served = node.is_none_or(|node| !self.is_of_machine(node));
        is_served.then_some(Work { id: call.id, caller, asked, subject })
    }

    /// Returns whether no process has the filter.
    fn is_unused(&self) -> bool {
        let mut state = [PollFd::new(self.listener.as_fd(), PollFlags::empty())];
        let _ = poll(&mut state, PollTimeout::ZERO);
        state[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Answers a call.
    ///
    /// # Errors
    /// `ENOENT` if the call no longer waits.
    fn answer(&self, work: &Work<'_>) -> Result<(), Errno> {
        let Work { id, caller, asked, subject } = work;
        let result = match (asked, subject) {
            (Call::Open(_, flags), Subject::Path(node)) => {
                let opened = self.open(caller, *node, *flags);
                match opened.and_then(|(fd, close)| self.listener.answer_with(*id, fd, close)) {
                    Ok(()) => return Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            (Call::Request { number, argument, .. }, Subject::Descriptor(fd)) => {
                self.request(caller, fd, *number, *argument)
            }
            (Call::Entries { into, room, .. }, Subject::Descriptor(fd)) => {
                self.entries(caller, fd, *into, *room)
            }
            _ => self.look(caller, asked, subject),
        };
        let answer = match (result, subject) {
            (Ok(Some(value)), _) => Answer::Value(value),
            // The kernel reports the cause: there is no node, or the program may not open the
            // machine's.
            (Ok(None), _) | (Err(Errno::ENOENT), Subject::Path(_) | Subject::Devices) => Answer::Untouched,
            (Err(errno), _) => Answer::Fails(errno),
        };
        self.listener.answer(*id, answer)
    }

    /// Returns whether the machine has the node, and this process may open it.
    fn is_of_machine(&self, node: Node) -> bool {
        let place = match &node {
            Node::Ion => PathBuf::from(ION),
            Node::DmaHeapDirectory => PathBuf::from(DMA_HEAPS),
            Node::DmaHeap(name) => Path::new(DMA_HEAPS).join(name.as_str()),
        };
        !self.forced && access(&place, AccessFlags::R_OK).is_ok()
    }

    fn open(&self, caller: &Caller<'_>, node: Node, flags: Flags) -> Result<(OwnedFd, bool), Errno> {
        let flags = match flags {
            Flags::Given(flags) => flags,
            Flags::At(address) => {
                let mut low = [0; size_of::<i32>()];
                let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
                caller.read(address.checked_add(low_half).ok_or(Errno::EFAULT)?, &mut low)?;
                i32::from_ne_bytes(low)
            }
        };
        Ok((self.nodes.open(node, flags)?, flags & libc::O_CLOEXEC != 0))
    }

    /// Answers a request to an open node; `None` leaves it to the kernel.
    fn request(
        &self,
        caller: &Caller<'_>,
        fd: &OwnedFd,
        number: u32,
        argument: u64,
    ) -> Result<Option<i64>, Errno> {
        let Some(open) = OpenNode::of(fd.as_fd()) else { return Ok(None) };
        self.nodes.request(&open, number, argument, caller).map(|value| Some(i64::from(value)))
    }

    /// Writes entries of the directory of dma-heaps, from the descriptor's position until the
    /// caller's memory is full. Returns the number of bytes.
    fn entries(
        &self,
        caller: &Caller<'_>,
        fd: &OwnedFd,
        into: u64,
        room: usize,
    ) -> Result<Option<i64>, Errno> {
        if OpenNode::of(fd.as_fd()).map(|open| open.node) != Some(Node::DmaHeapDirectory) {
            return Ok(None);
        }
        let heaps = self.nodes.entries()?;
        let dots = [&b"."[..], b".."].map(|name| Entry {
            name,
            inode: Node::DmaHeapDirectory.status().inode,
            is_directory: true,
        });
        let devices = heaps.iter().map(|heap| Entry {
            name: heap.name.as_str().as_bytes(),
            inode: heap.inode,
            is_directory: false,
        });
        let entries: Vec<_> = dots.into_iter().chain(devices).collect();
        // The copied descriptor shares its position with the program's: seekdir(3) and rewinddir(3)
        // move both.
        let place = lseek(fd, 0, Whence::SeekCur)?;
        let from = usize::try_from(place).map_err(|_| Errno::EINVAL)?;
        let (records, count) = status::records(&entries, from, room);
        if count == 0 && from < entries.len() {
            return Err(Errno::EINVAL);
        }
        caller.write(into, &records)?;
        let moved = i64::try_from(count).map_err(|_| Errno::EOVERFLOW)?;
        lseek(fd, place + moved, Whence::SeekSet)?;
        i64::try_from(records.len()).map(Some).map_err(|_| Errno::EOVERFLOW)
    }

    /// Answers stat(2), access(2) and similar calls; `None` leaves the call to the kernel.
    fn look(&self, caller: &Caller<'_>, asked: &Call, subject: &Subject) -> Result<Option<i64>, Errno> {
        let status = match subject {
            Subject::Path(node) => {
                self.nodes.find(*node)?;
                node.status()
            }
            Subject::Descriptor(fd) => match OpenNode::of(fd.as_fd()) {
                Some(open) => open.node.status(),
                None => return Ok(None),
            },
            Subject::Devices => {
                let devices = stat(DEVICES)?;
                NodeStatus { mode: devices.st_mode, rdev: devices.st_rdev, inode: devices.st_ino }
            }
        };
        match asked {
            Call::Stat(_, into) => caller.write(*into, &status::stat(status))?,
            Call::Statx(_, into) => caller.write(*into, &status::statx(status))?,
            Call::Access(_, mode) => permits(status, *mode)?,
            Call::ReadLink(_) => return Err(Errno::EINVAL),
            Call::Open(..) | Call::Entries { .. } | Call::Request { .. } => return Ok(None),
        }
        Ok(Some(0))
    }
}

/// The directory of devices.
const DEVICES: &str = "/dev";

/// Returns the object of a call, if it can be one of the nodes.
fn subject(caller: &Caller<'_>, asked: &Call) -> Option<Subject> {
    let of_named = |named: &Named| caller.node(named);
    match asked {
        Call::Open(named, _) => of_named(named),
        Call::Stat(named, _) | Call::Statx(named, _) | Call::Access(named, _) | Call::ReadLink(named) => {
            of_named(named)
        }
        Call::Entries { directory, .. } => caller.open_node(*directory).map(Subject::Descriptor),
        // Its request has the type of the nodes' requests, which few other devices use.
        Call::Request { device, .. } => caller.copy(*device).ok().map(Subject::Descriptor),
    }
}

/// Checks the mode of access(2), as for a file of root.
///
/// # Errors
/// `EACCES` if it is not permitted; `EINVAL` if the mode is not valid.
fn permits(status: NodeStatus, mode: i32) -> Result<(), Errno> {
    if mode & !(libc::R_OK | libc::W_OK | libc::X_OK) != 0 {
        return Err(Errno::EINVAL);
    }
    let others = i32::try_from(status.mode & 0o7).map_err(|_| Errno::EINVAL)?;
    if mode & !others == 0 { Ok(()) } else { Err(Errno::EACCES) }
}
