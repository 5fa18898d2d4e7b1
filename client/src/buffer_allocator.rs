// SPDX-License-Identifier: Apache-2.0
//! The shape of libdmabufheap's `BufferAllocator`, so that code written for it ports line by line.

use super::buffer::Heap;
use super::connection::Client;
use super::error::Error;
use super::request::Request;
use anion_memory::Backing;
use anion_memory::dma_buf::{CpuAccess, Phase, set_name, sync};
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What dma-heaps call ordinary memory.
const SYSTEM: &str = "system";
/// What ION called it.
const ION_SYSTEM: &str = "ion_system_heap";
/// The same, mapped uncached by the CPU.
const SYSTEM_UNCACHED: &str = "system-uncached";

/// The direction of a CPU access.
pub type SyncType = CpuAccess;

/// Allocates by heap name and gives bare descriptors, as libdmabufheap's class of this name does.
/// New code is better served by [`Client`].
///
/// What differs: the heaps are those of the service, so that no device has to be open to the
/// caller, and what was allocated counts against its quota (not of heaps of ashmem, whose token a
/// bare descriptor cannot keep). Descriptors are whatever the heap's configuration says; where only
/// dma-bufs will do, say so with [`BufferAllocator::dma_bufs_only`]. Errors are values that tell
/// the reason, not numbers.
#[derive(Debug)]
pub struct BufferAllocator {
    client: Client,
    names: HeapNames,
    dma_bufs_only: bool,
}

/// Which heaps libdmabufheap's names stand for.
#[derive(Debug)]
pub struct HeapNames {
    /// Names to fall back to, by name.
    ion_names: HashMap<String, String>,
}

impl HeapNames {
    /// Has `ion_heap_name` tried after `heap_name`. A later mapping of the same name replaces an
    /// earlier one.
    pub fn map(&mut self, heap_name: &str, ion_heap_name: &str) {
        self.ion_names.insert(heap_name.to_owned(), ion_heap_name.to_owned());
    }

    /// Returns a request for `len` bytes of these heaps, and of what they are mapped to.
    pub fn request(&self, heaps: &[&str], len: usize) -> Request {
        let ion_names = heaps.iter().filter_map(|heap| self.ion_names.get(*heap).map(String::as_str));
        heaps.iter().copied().chain(ion_names).fold(Request::new(len as u64), Request::heap)
    }

    /// Returns the names of ordinary memory; if the CPU will not touch it, first that which it maps
    /// uncached.
    pub fn of_system(cpu_access_needed: bool) -> &'static [&'static str] {
        if cpu_access_needed { &[SYSTEM] } else { &[SYSTEM_UNCACHED, SYSTEM] }
    }
}

/// Those of ordinary memory are mapped to ION's.
impl Default for HeapNames {
    fn default() -> Self {
        let ion_names = [SYSTEM, SYSTEM_UNCACHED].map(|name| (name.to_owned(), ION_SYSTEM.to_owned()));
        Self { ion_names: HashMap::from(ion_names) }
    }
}

impl BufferAllocator {
    /// Connects to the service, found as `anionctl` finds it. `system` and `system-uncached` are
    /// mapped to `ion_system_heap`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn new() -> Result<Self, Error> {
        Client::connect().map(Self::from)
    }

    /// Has all further allocations refused that no heap can serve with a dma-buf.
    pub fn dma_bufs_only(&mut self) {
        self.dma_bufs_only = true;
    }

    /// Has `ion_heap_name` tried where no heap answers to `heap_name`, or that heap cannot serve a
    /// request. A later mapping of the same name replaces an earlier one.
    pub fn map_name_to_ion_heap(&mut self, heap_name: &str, ion_heap_name: &str) {
        self.names.map(heap_name, ion_heap_name);
    }

    /// Allocates `len` bytes, rounded up to the heap's allocation granularity. `legacy_align` is 0,
    /// or the alignment in bytes that the memory must have; ION refused more than a page of most
    /// heaps, and so does this.
    ///
    /// # Errors
    /// As [`Client::allocate`].
    pub fn alloc(&self, heap_name: &str, len: usize, legacy_align: usize) -> Result<OwnedFd, Error> {
        self.alloc_first(&[heap_name], len, legacy_align)
    }

    /// Allocates ordinary memory; if the CPU will not touch it, preferably from a heap that the CPU
    /// maps uncached, which spares cache maintenance.
    ///
    /// # Errors
    /// As [`Client::allocate`].
    pub fn alloc_system(
        &self,
        cpu_access_needed: bool,
        len: usize,
        legacy_align: usize,
    ) -> Result<OwnedFd, Error> {
        self.alloc_first(HeapNames::of_system(cpu_access_needed), len, legacy_align)
    }

    /// Begins an access of the CPU to a mapping of the buffer. What is no dma-buf needs no such
    /// call and is left alone.
    ///
    /// # Errors
    /// As the buffer's exporter.
    pub fn cpu_sync_start(&self, fd: impl AsFd, access: SyncType) -> io::Result<()> {
        sync(fd, access, Phase::Start)
    }

    /// Ends an access of the CPU to a mapping of the buffer, with the same `access` as at the
    /// start.
    ///
    /// # Errors
    /// As the buffer's exporter.
    pub fn cpu_sync_end(&self, fd: impl AsFd, access: SyncType) -> io::Result<()> {
        sync(fd, access, Phase::End)
    }

    /// Gives a dma-buf a name that the kernel shows.
    ///
    /// # Errors
    /// `EINVAL` for more than 31 bytes or a NUL among them; `ENOTTY` if it is no dma-buf.
    pub fn dmabuf_set_name(&self, fd: impl AsFd, name: &str) -> io::Result<()> {
        let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        set_name(fd, &name)
    }

    /// Returns the names and aliases of the heaps that can be allocated from here: of those that
    /// give dma-bufs alone if [`BufferAllocator::dma_bufs_only`] was called, as far as the first of
    /// a heap's sources tells.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn get_dmabuf_heap_list(&self) -> Result<BTreeSet<String>, Error> {
        let is_wanted =
            |backing: Option<Backing>| !self.dma_bufs_only || backing.is_some_and(Backing::is_dma_buf);
        let heaps = self.client.heaps()?;
        let usable = heaps.into_iter().filter(|heap| heap.unavailable.is_none() && is_wanted(heap.backing));
        Ok(usable.flat_map(Heap::into_names).collect())
    }

    /// Returns whether a heap of the kernel's ION can be allocated from. No code has to care: the
    /// names are the same.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn check_ion_support(&self) -> Result<bool, Error> {
        let heaps = self.client.heaps()?;
        Ok(heaps.iter().any(|heap| heap.unavailable.is_none() && heap.backing == Some(Backing::Ion)))
    }

    fn alloc_first(&self, heaps: &[&str], len: usize, legacy_align: usize) -> Result<OwnedFd, Error> {
        let request = self.names.request(heaps, len).alignment(legacy_align as u64);
        let request = if self.dma_bufs_only { request.dma_buf() } else { request };
        Ok(self.client.allocate_one(&request)?.into_fd())
    }
}

/// With a connection of the caller's own.
impl From<Client> for BufferAllocator {
    fn from(client: Client) -> Self {
        Self { client, names: HeapNames::default(), dma_bufs_only: false }
    }
}
