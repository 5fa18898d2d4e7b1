// SPDX-License-Identifier: Apache-2.0
//! A class with the methods of libdmabufheap's `BufferAllocator`, so that code written for it can
//! be ported line by line.

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

/// Name of the dma-heap of ordinary memory.
const SYSTEM: &str = "system";
/// Name of ION's heap of ordinary memory.
const ION_SYSTEM: &str = "ion_system_heap";
/// Name of the heap of ordinary memory that the CPU maps uncached.
const SYSTEM_UNCACHED: &str = "system-uncached";

/// The direction of a CPU access.
pub type SyncType = CpuAccess;

/// Allocates by heap name and returns bare descriptors, as libdmabufheap's class of this name does.
/// New code should use [`Client`].
///
/// Differences: the heaps are those of the service, so the caller needs no access to a device, and
/// allocations count against its quota (except of ashmem heaps, whose token a bare descriptor
/// cannot keep). The heap's configuration decides the kind of the descriptors; call
/// [`BufferAllocator::dma_bufs_only`] if the caller needs dma-bufs. Errors are values with the
/// reason, not numbers.
#[derive(Debug)]
pub struct BufferAllocator {
    client: Client,
    names: HeapNames,
    dma_bufs_only: bool,
}

/// The heaps for libdmabufheap's names.
#[derive(Debug)]
pub struct HeapNames {
    /// Fallback names, by name.
    ion_names: HashMap<String, String>,
}

impl HeapNames {
    /// Adds `ion_heap_name` as the name to try after `heap_name`. A later mapping of the same name
    /// replaces an earlier one.
    pub fn map(&mut self, heap_name: &str, ion_heap_name: &str) {
        self.ion_names.insert(heap_name.to_owned(), ion_heap_name.to_owned());
    }

    /// Returns a request for `len` bytes of these heaps, and of the heaps that they are mapped to.
    pub fn request(&self, heaps: &[&str], len: usize) -> Request {
        let ion_names = heaps.iter().filter_map(|heap| self.ion_names.get(*heap).map(String::as_str));
        heaps.iter().copied().chain(ion_names).fold(Request::new(len as u64), Request::heap)
    }

    /// Returns the names of ordinary memory; without CPU access, the name of uncached memory comes
    /// first.
    pub fn of_system(cpu_access_needed: bool) -> &'static [&'static str] {
        if cpu_access_needed { &[SYSTEM] } else { &[SYSTEM_UNCACHED, SYSTEM] }
    }
}

/// Maps the names of ordinary memory to ION's.
impl Default for HeapNames {
    fn default() -> Self {
        let ion_names = [SYSTEM, SYSTEM_UNCACHED].map(|name| (name.to_owned(), ION_SYSTEM.to_owned()));
        Self { ion_names: HashMap::from(ion_names) }
    }
}

impl BufferAllocator {
    /// Connects to the service, which it finds as `anionctl` does. `system` and `system-uncached`
    /// are mapped to `ion_system_heap`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn new() -> Result<Self, Error> {
        Client::connect().map(Self::from)
    }

    /// Restricts further allocations to dma-bufs: an allocation fails if no heap can serve it with
    /// one.
    pub fn dma_bufs_only(&mut self) {
        self.dma_bufs_only = true;
    }

    /// Adds `ion_heap_name` as the name to try if no heap has the name `heap_name`, or if that heap
    /// cannot serve a request. A later mapping of the same name replaces an earlier one.
    pub fn map_name_to_ion_heap(&mut self, heap_name: &str, ion_heap_name: &str) {
        self.names.map(heap_name, ion_heap_name);
    }

    /// Allocates `len` bytes, rounded up to the heap's allocation granularity. `legacy_align` is 0,
    /// or the required alignment of the memory in bytes. As in ION, most heaps refuse more than a
    /// page.
    ///
    /// # Errors
    /// As [`Client::allocate`].
    pub fn alloc(&self, heap_name: &str, len: usize, legacy_align: usize) -> Result<OwnedFd, Error> {
        self.alloc_first(&[heap_name], len, legacy_align)
    }

    /// Allocates ordinary memory. Without CPU access it prefers a heap that the CPU maps uncached,
    /// which avoids cache maintenance.
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

    /// Begins a CPU access to a mapping of the buffer. Does nothing for files that are no dma-bufs.
    ///
    /// # Errors
    /// Those of the buffer's exporter.
    pub fn cpu_sync_start(&self, fd: impl AsFd, access: SyncType) -> io::Result<()> {
        sync(fd, access, Phase::Start)
    }

    /// Ends a CPU access to a mapping of the buffer, with the same `access` as at the start.
    ///
    /// # Errors
    /// Those of the buffer's exporter.
    pub fn cpu_sync_end(&self, fd: impl AsFd, access: SyncType) -> io::Result<()> {
        sync(fd, access, Phase::End)
    }

    /// Sets the name of a dma-buf, which the kernel shows.
    ///
    /// # Errors
    /// `EINVAL` if the name has more than 31 bytes or contains a NUL; `ENOTTY` if `fd` is no
    /// dma-buf.
    pub fn dmabuf_set_name(&self, fd: impl AsFd, name: &str) -> io::Result<()> {
        let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        set_name(fd, &name)
    }

    /// Returns the names and aliases of the heaps that can serve allocations. After
    /// [`BufferAllocator::dma_bufs_only`] it returns only heaps whose first source makes dma-bufs.
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

    /// Returns whether a heap of the kernel's ION is available. Code need not check this: the names
    /// are the same.
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

/// Uses the caller's connection.
impl From<Client> for BufferAllocator {
    fn from(client: Client) -> Self {
        Self { client, names: HeapNames::default(), dma_bufs_only: false }
    }
}
