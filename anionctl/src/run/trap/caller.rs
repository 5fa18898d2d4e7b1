// SPDX-License-Identifier: Apache-2.0
//! Accesses the process that waits for an answer: its memory, its descriptors, and its paths.

use super::calls::Named;
use super::sys::{Listener, Notification};
use anion_nodes::{DMA_HEAPS, Node, OpenNode, Program, is_above_dma_heaps, node_at};
use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::sys::stat::stat;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::ffi::{OsStr, c_int};
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Prefix of the links in /proc of descriptors that can be open nodes.
const OPEN_NODE: &[u8] = b"/memfd:anion:";
/// Memory is read up to the next multiple of this, because the page after it may be unmapped.
const PIECE: usize = 4096;
/// `PATH_MAX`, the kernel's limit.
const LONGEST_PATH: usize = 4096;
/// `PIDFD_THREAD` (Linux 6.9): permits a descriptor of a thread that is not the first of its
/// process.
const OF_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.unsigned_abs());

/// The thread whose call is being answered.
///
/// A thread is identified by its number, which the kernel can reuse after the thread ended. So the
/// data that was read is used only if the call still waits ([`Listener::is_waiting`]).
pub(super) struct Caller<'a> {
    listener: &'a Listener,
    last: &'a LastProcess,
    id: u64,
    thread: Pid,
}

/// A thread, and a descriptor that refers to it even if its number is reused.
#[derive(Default)]
pub(super) struct LastProcess(Mutex<Option<(Pid, Arc<OwnedFd>)>>);

/// The object of a call.
pub(super) enum Subject {
    /// The node at a path.
    Path(Node),
    /// The directory of devices, reached by a path through the directory of dma-heaps, which the
    /// machine may lack.
    Devices,
    /// A descriptor of an open node.
    Descriptor(OwnedFd),
}

impl<'a> Caller<'a> {
    /// Returns the caller; `None` if its thread is in a process namespace that is not visible here.
    pub(super) fn of(listener: &'a Listener, last: &'a LastProcess, call: &Notification) -> Option<Self> {
        let thread = i32::try_from(call.thread).ok().filter(|thread| *thread > 0)?;
        Some(Self { listener, last, id: call.id, thread: Pid::from_raw(thread) })
    }

    /// Returns the node that a call names; `None` if it names no node, or if the name cannot be
    /// resolved. The kernel then reports the error.
    pub(super) fn node(&self, named: &Named) -> Option<Subject> {
        let path = if named.path == 0 { Vec::new() } else { self.path(named.path).ok()? };
        if path.is_empty() {
            return self.open_node(named.directory).filter(|_| named.may_be_empty).map(Subject::Descriptor);
        }
        let path = self.absolute(named.directory, Path::new(OsStr::from_bytes(&path)))?;
        let subject = match node_at(&path) {
            Some(node) => Subject::Path(node),
            None if is_above_dma_heaps(&path) => Subject::Devices,
            None => return None,
        };
        Some(subject).filter(|_| self.has_our_root() && self.listener.is_waiting(self.id))
    }

    /// Returns the absolute path.
    fn absolute(&self, directory: RawFd, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let link = match directory {
            libc::AT_FDCWD => "cwd".to_owned(),
            number => format!("fd/{number}"),
        };
        let start = readlink(self.place(&link).as_str()).ok()?;
        if !start.as_bytes().starts_with(OPEN_NODE) {
            return Some(Path::new(&start).join(path));
        }
        let start = self.open_node(directory)?;
        match OpenNode::of(start.as_fd())?.node {
            Node::DmaHeapDirectory => Some(Path::new(DMA_HEAPS).join(path)),
            Node::Ion | Node::DmaHeap(_) => None,
        }
    }

    /// Returns a copy of a descriptor whose name is that of an open node. Does not copy others: a
    /// copy keeps a file open that the program closes.
    pub(super) fn open_node(&self, number: RawFd) -> Option<OwnedFd> {
        let link = readlink(self.place(&format!("fd/{number}")).as_str()).ok()?;
        if link.as_bytes().starts_with(OPEN_NODE) { self.copy(number).ok() } else { None }
    }

    /// Returns whether absolute paths name the same files for the caller and for this process.
    fn has_our_root(&self) -> bool {
        match (stat("/"), stat(self.place("root").as_str())) {
            (Ok(own), Ok(theirs)) => (own.st_dev, own.st_ino) == (theirs.st_dev, theirs.st_ino),
            _ => false,
        }
    }

    fn place(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.thread)
    }

    /// Reads a text that ends with NUL. It is the caller's only if the call still waits.
    ///
    /// # Errors
    /// `EFAULT` if the text reaches unmapped memory; `ENAMETOOLONG` beyond `PATH_MAX`.
    fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut address = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
        let mut path = Vec::new();
        while path.len() < LONGEST_PATH {
            let mut piece = [0; PIECE];
            let piece = &mut piece[..PIECE - address % PIECE];
            self.peek(address as u64, piece)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                path.extend_from_slice(&piece[..end]);
                return Ok(path);
            }
            path.extend_from_slice(piece);
            address = address.checked_add(piece.len()).ok_or(Errno::EFAULT)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads memory. It is the caller's only if the call still waits.
    fn peek(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let (wanted, from) = (bytes.len(), self.remote(address, bytes.len())?);
        match process_vm_readv(self.thread, &mut [IoSliceMut::new(bytes)], &from) {
            Ok(read) if read == wanted => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn remote(&self, address: u64, len: usize) -> Result<[RemoteIoVec; 1], Errno> {
        Ok([RemoteIoVec { base: usize::try_from(address).map_err(|_| Errno::EFAULT)?, len }])
    }
}

impl Program for Caller<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.peek(address, bytes)?;
        if self.listener.is_waiting(self.id) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Writes to the thread's memory. Another thread can have its number only if it was killed, and
    /// all other numbers were used, between two system calls of this function.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let to = self.remote(address, bytes.len())?;
        if !self.listener.is_waiting(self.id) {
            return Err(Errno::EFAULT);
        }
        match process_vm_writev(self.thread, &[IoSlice::new(bytes)], &to) {
            Ok(written) if written == bytes.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn check_writable(&self, _: u64, _: usize) -> Result<(), Errno> {
        Ok(())
    }

    fn install(&self, fd: OwnedFd, close_on_exec: bool) -> Result<c_int, Errno> {
        self.listener.give(self.id, fd, close_on_exec)
    }

    fn copy(&self, number: c_int) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::EBADF);
        }
        if let Some(process) = self.last.get(self.thread) {
            match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
                // The thread has ended, and another one has its number.
                Err(rustix::io::Errno::SRCH) => {}
                result => return result.map_err(errno),
            }
        }
        let process = self.process()?;
        if !self.listener.is_waiting(self.id) {
            return Err(Errno::EBADF);
        }
        pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).map_err(errno)
    }
}

impl Caller<'_> {
    /// Returns a descriptor of the thread, or of its process: with rare exceptions, threads share
    /// the descriptors of their process.
    fn process(&self) -> Result<Arc<OwnedFd>, Errno> {
        let pid = |pid: i32| rustix::process::Pid::from_raw(pid).ok_or(Errno::EBADF);
        let thread = pid(self.thread.as_raw())?;
        // Before Linux 6.9, only the first thread of a process can have a descriptor.
        let opened = pidfd_open(thread, OF_THREAD).or_else(|_| pidfd_open(thread, PidfdFlags::empty()));
        match opened {
            Ok(opened) => {
                let opened = Arc::new(opened);
                self.last.set(self.thread, &opened);
                Ok(opened)
            }
            Err(_) => {
                pidfd_open(pid(self.first_thread()?)?, PidfdFlags::empty()).map(Arc::new).map_err(errno)
            }
        }
    }

    /// Returns the number of the first thread of the thread's process.
    fn first_thread(&self) -> Result<i32, Errno> {
        let status = fs::read_to_string(self.place("status")).map_err(|_| Errno::EBADF)?;
        let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        number.and_then(|number| number.trim().parse().ok()).ok_or(Errno::EBADF)
    }
}

impl LastProcess {
    fn get(&self, thread: Pid) -> Option<Arc<OwnedFd>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(number, _)| *number == thread).map(|(_, process)| Arc::clone(process))
    }

    fn set(&self, thread: Pid, process: &Arc<OwnedFd>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((thread, Arc::clone(process)));
    }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
