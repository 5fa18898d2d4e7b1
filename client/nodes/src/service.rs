// SPDX-License-Identifier: Apache-2.0
//! The nodes of one program, and their connection to the service.

use crate::handles::Files;
use crate::node::{HeapName, Node};
use crate::open_node::{self, OpenNode};
use crate::program::Program;
use crate::{dma_heap, ion};
use anion_client::{Buffer, Client, Heap, Request, errno_of};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::c_int;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// The interface of ION that a program sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interface {
    /// Both interfaces, for all requests. libion distinguishes them by `ION_IOC_FREE` of handle 0;
    /// the answer is that of a kernel with descriptors, `ENOTTY`.
    #[default]
    Both,
    /// The interface of Linux 4.12 to 5.10, whose allocations are descriptors. Requests for handles
    /// fail.
    Descriptors,
    /// The interface of older kernels, whose allocations are handles. Requests for descriptors
    /// fail.
    Handles,
}

impl Interface {
    /// Returns its word in the environment variable `ANION_ION_INTERFACE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Descriptors => "descriptors",
            Self::Handles => "handles",
        }
    }

    /// Returns the interface of a word; `Both` if there is none.
    pub fn of_word(word: &str) -> Self {
        let others = [Self::Descriptors, Self::Handles];
        others.into_iter().find(|interface| interface.word() == word).unwrap_or_default()
    }
}

/// Settings of [`Nodes`].
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Address of the service, and how long calls wait for it.
    pub client: anion_client::Settings,
    /// The interface of `/dev/ion`.
    pub interface: Interface,
}

/// An entry of the directory of dma-heaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The node's name.
    pub name: HeapName,
    /// The inode that stat(2) shows.
    pub inode: u64,
}

/// The nodes that programs see. Threads can share them; a child of fork(2) has a copy with a
/// connection of its own.
#[derive(Debug, Default)]
pub struct Nodes {
    pub(crate) settings: Settings,
    client: OnceLock<Client>,
    pub(crate) files: Files,
}

impl Nodes {
    /// Returns nodes that connect to the service at first use.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Returns the client, and connects it at first use.
    ///
    /// # Errors
    /// `ENOTCONN` if no service answers. The next call tries again.
    pub(crate) fn client(&self) -> Result<&Client, Errno> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // If several threads connect at once, one connection is kept. No lock is held meanwhile: a
        // child of fork could never acquire it.
        let connected = Client::with(self.settings.client.clone()).map_err(errno)?;
        Ok(self.client.get_or_init(|| connected))
    }

    /// Returns the usable heaps, by descending id.
    ///
    /// # Errors
    /// `ENOTCONN` if no service answers; others as `anion_client::Error::errno`.
    pub(crate) fn heaps(&self) -> Result<Vec<Heap>, Errno> {
        let heaps = self.client()?.heaps().map_err(errno)?;
        Ok(heaps.into_iter().filter(|heap| heap.unavailable.is_none()).collect())
    }

    /// Returns the entries of the directory of dma-heaps, sorted: names and aliases of the usable
    /// heaps. Skips names that no node can have.
    ///
    /// # Errors
    /// `ENOTCONN` if no service answers; others as `anion_client::Error::errno`.
    pub fn entries(&self) -> Result<Vec<Entry>, Errno> {
        let heaps = self.heaps()?;
        let mut names: Vec<String> = heaps.into_iter().flat_map(Heap::into_names).collect();
        names.sort();
        names.dedup();
        let names = names.iter().filter_map(|name| HeapName::new(name.as_bytes()));
        let entry = |name| Entry { name, inode: Node::DmaHeap(name).status().inode };
        Ok(names.map(entry).collect())
    }

    /// Checks that a node exists: that a service answers, and has a heap of this name.
    ///
    /// # Errors
    /// `ENOENT` if not.
    pub fn find(&self, node: Node) -> Result<(), Errno> {
        match node {
            Node::DmaHeap(name) => {
                let heaps = self.heaps().map_err(|_| Errno::ENOENT)?;
                let is_there = heaps.iter().any(|heap| heap.answers_to(name.as_str()));
                if is_there { Ok(()) } else { Err(Errno::ENOENT) }
            }
            Node::Ion | Node::DmaHeapDirectory => self.client().map(drop).map_err(|_| Errno::ENOENT),
        }
    }

    /// Opens a node for a program with its `O_` flags. The descriptor has their access mode (a
    /// write-only one can be read, too), `O_CLOEXEC`, `O_NONBLOCK` and `O_PATH`.
    ///
    /// # Errors
    /// `ENOENT` if no service answers or it has no such heap; `EISDIR`, `ENOTDIR` and `EEXIST` as
    /// open(2) of such a node; `EMFILE` if no descriptor is free.
    pub fn open(&self, node: Node, flags: c_int) -> Result<OwnedFd, Errno> {
        self.find(node)?;
        self.files.release_closed();
        open_node::make(node, OFlag::from_bits_retain(flags))
    }

    /// Answers ioctl(2) of an open node, with the program's request number and argument.
    ///
    /// # Errors
    /// Those of the kernel's drivers, in their order: `EINVAL`, `EFAULT`, `ENODEV`, `ENOMEM`,
    /// `ENOTTY`. For refusals without a counterpart there: `EDQUOT`, `EPERM`, `EOPNOTSUPP`.
    /// `ENOTCONN` if the service has ended.
    pub fn request(
        &self,
        open: &OpenNode<'_>,
        number: u32,
        argument: u64,
        program: &impl Program,
    ) -> Result<c_int, Errno> {
        let number = Number(number);
        match &open.node {
            Node::Ion => ion::request(self, open, number, argument, program),
            Node::DmaHeap(heap) => dma_heap::request(self, heap.as_str(), number, argument, program),
            Node::DmaHeapDirectory => Err(Errno::ENOTTY),
        }
    }

    /// Returns whether any open file of ION has had handles since all were last closed. Costs one
    /// comparison.
    pub fn has_handles(&self) -> bool {
        self.files.is_in_use()
    }

    /// Frees the handles of ION's open files whose descriptors are all closed. Costs one comparison
    /// if no handle was ever created.
    pub fn release_closed(&self) {
        self.files.release_closed();
    }

    /// Allocates one buffer. Checks `bytes` as the kernel's drivers do.
    ///
    /// # Errors
    /// `EINVAL` for a size of 0, and for one that wraps when it is rounded up to pages; `ENOMEM`
    /// beyond the maximum of the service's interface.
    pub(crate) fn allocate(
        &self,
        bytes: u64,
        with: impl FnOnce(Request) -> Request,
    ) -> Result<Buffer, Errno> {
        if bytes == 0 || bytes > u64::MAX - LARGEST_PAGE {
            return Err(Errno::EINVAL);
        }
        if bytes > i64::MAX.cast_unsigned() - LARGEST_GRANULE {
            return Err(Errno::ENOMEM);
        }
        self.client()?.allocate_one(&with(Request::new(bytes))).map_err(errno)
    }
}

/// A size above `u64::MAX` minus this wraps when the drivers round it up to pages, which have 4 KiB
/// on most machines.
const LARGEST_PAGE: u64 = 4095;
/// Largest granule of the service: a huge page.
const LARGEST_GRANULE: u64 = 1 << 30;

pub(crate) fn errno(error: anion_client::Error) -> Errno {
    Errno::from_raw(error.errno())
}

/// Returns the errno of a failed call of this process.
pub(crate) fn local(error: io::Error) -> Errno {
    Errno::from_raw(errno_of(&error))
}

/// The number of a request: `_IOC` of asm/ioctl.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u32);

impl Number {
    /// Returns the number of the request within its driver.
    pub(crate) fn nr(self) -> u32 {
        self.0 & 0xff
    }

    /// Returns the size of the argument in bytes.
    pub(crate) fn size(self) -> usize {
        // 14 bits.
        usize::try_from(self.0 >> 16 & 0x3fff).unwrap_or(0)
    }

    /// Returns whether the driver reads the argument.
    pub(crate) fn is_read(self) -> bool {
        self.0 >> 30 & 1 != 0
    }

    /// Returns whether the driver writes the argument.
    pub(crate) fn is_written(self) -> bool {
        self.0 >> 31 != 0
    }
}

/// The argument of a request: a structure in the program's memory, and a copy of it.
pub(crate) struct Argument<'a, P> {
    program: &'a P,
    address: u64,
    bytes: [u8; 32],
    length: usize,
}

impl<'a, P: Program> Argument<'a, P> {
    /// Reads a structure of `length` bytes, at most 32.
    ///
    /// # Errors
    /// `EFAULT` if the program has not mapped it.
    pub(crate) fn read(program: &'a P, address: u64, length: usize) -> Result<Self, Errno> {
        let mut bytes = [0; 32];
        program.read(address, &mut bytes[..length])?;
        Ok(Self { program, address, bytes, length })
    }

    /// Checks that the structure can be written, before a handle is created whose number only the
    /// structure contains.
    ///
    /// # Errors
    /// `EFAULT` if not.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        self.write()
    }

    /// Checks the same before a descriptor is created, as far as [`Program::check_writable`] does.
    ///
    /// # Errors
    /// `EFAULT` if not.
    pub(crate) fn check_writable_for_fd(&self) -> Result<(), Errno> {
        self.program.check_writable(self.address, self.length)
    }

    /// Returns the number of 4 bytes at `place`.
    pub(crate) fn u32(&self, place: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[place..place + 4]);
        u32::from_ne_bytes(bytes)
    }

    /// Returns the signed number of 4 bytes at `place`.
    pub(crate) fn int(&self, place: usize) -> c_int {
        self.u32(place).cast_signed()
    }

    /// Returns the number of 8 bytes at `place`.
    pub(crate) fn u64(&self, place: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[place..place + 8]);
        u64::from_ne_bytes(bytes)
    }

    /// Replaces the number of 4 bytes at `place`, and writes the structure to the program.
    ///
    /// # Errors
    /// `EFAULT` if it cannot be written.
    pub(crate) fn store(&mut self, place: usize, number: u32) -> Result<(), Errno> {
        self.bytes[place..place + 4].copy_from_slice(&number.to_ne_bytes());
        self.write()
    }

    /// Adds a descriptor to the program, and stores its number at `place`.
    ///
    /// # Errors
    /// As [`Program::install`].
    pub(crate) fn give(&mut self, place: usize, fd: OwnedFd, close_on_exec: bool) -> Result<(), Errno> {
        let number = self.program.install(fd, close_on_exec)?;
        self.store(place, number.cast_unsigned())
    }

    fn write(&self) -> Result<(), Errno> {
        self.program.write(self.address, &self.bytes[..self.length])
    }
}
