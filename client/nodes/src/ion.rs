// SPDX-License-Identifier: Apache-2.0
//! Answers ION's requests of both interfaces: `drivers/staging/android/ion/ion-ioctl.c` of Linux
//! 5.10, and of Linux 4.11 for handles.

use crate::open_node::OpenNode;
use crate::program::Program;
use crate::service::{Argument, Interface, Nodes, Number, local};
use anion_client::{CpuAccess, Heap, Phase};
use anion_memory::dma_buf::sync;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::ffi::c_int;
use std::os::fd::OwnedFd;

/// `struct ion_new_allocation_data`: `len` at 0, `heap_id_mask` at 8, `flags` at 12, `fd` at 16.
const ALLOC: u32 = 0xc018_4900;
/// `struct ion_heap_query`: `cnt` at 0, three reserved numbers at 4, 16 and 20, `heaps` at 8.
const HEAP_QUERY: u32 = 0xc018_4908;
/// Bytes of both.
const DATA: usize = 24;

/// `struct ion_allocation_data` of 64-bit programs: `len` at 0, `align` at 8, `heap_id_mask` at 16,
/// `flags` at 20, `handle` at 24.
const LEGACY_ALLOC: u32 = 0xc020_4900;
/// The same of 32-bit programs: at 0, 4, 8, 12 and 16.
const LEGACY_ALLOC_32: u32 = 0xc014_4900;
/// `struct ion_handle_data`: one int.
const FREE: u32 = 0xc004_4901;
/// `struct ion_fd_data`: `handle` at 0, `fd` at 4. The next three requests use it, too.
const MAP: u32 = 0xc008_4902;
const SHARE: u32 = 0xc008_4904;
const IMPORT: u32 = 0xc008_4905;
const SYNC: u32 = 0xc008_4907;

/// Mappings are cached: the only flag that all heaps of ION supported.
const CACHED: u32 = 1;
/// Most heaps of ION refused a larger alignment, and used this one instead of a smaller one.
const PAGE: u64 = 4096;
/// Bytes of `struct ion_heap_data`: a name of 32, `type`, `heap_id`, and 12 reserved bytes.
pub const HEAP: usize = 52;

/// Answers a request to `/dev/ion`.
///
/// # Errors
/// `ENOTTY` for requests that the imitated kernel does not have. A kernel with descriptors returns
/// `EINVAL` if the structure is longer than all that it knows. `EFAULT`; those of an allocation.
pub(crate) fn request(
    nodes: &Nodes,
    open: &OpenNode<'_>,
    number: Number,
    address: u64,
    program: &impl Program,
) -> Result<c_int, Errno> {
    let interface = nodes.settings.interface;
    match number.0 {
        ALLOC if interface != Interface::Handles => allocate(nodes, address, program),
        // The last kernels with handles have this request, too.
        HEAP_QUERY => query(nodes, address, program),
        _ if interface != Interface::Descriptors => legacy(nodes, open, number, address, program),
        _ => Err(unknown(interface, number)),
    }
}

fn unknown(interface: Interface, number: Number) -> Errno {
    if interface != Interface::Handles && number.size() > DATA { Errno::EINVAL } else { Errno::ENOTTY }
}

fn allocate(nodes: &Nodes, address: u64, program: &impl Program) -> Result<c_int, Errno> {
    let mut data = Argument::read(program, address, DATA)?;
    data.check_writable_for_fd()?;
    let buffer = nodes.ion_allocate(data.u64(0), 0, data.u32(8), data.u32(12))?;
    data.give(16, buffer, true)?;
    Ok(0)
}

/// ION's requests, for callers that pass the arguments differently.
impl Nodes {
    /// Allocates `bytes` bytes from the heaps in `mask`, by descending id. An alignment of more
    /// than a page applies to the physical memory. Of the flags, only that for cached mappings has
    /// an effect.
    ///
    /// # Errors
    /// `EINVAL` for a size of 0; `ENODEV` if the mask has no heap; `ENOMEM` if those heaps have no
    /// room; others as [`Nodes::request`].
    pub fn ion_allocate(&self, bytes: u64, align: u64, mask: u32, flags: u32) -> Result<OwnedFd, Errno> {
        if mask == 0 && bytes != 0 {
            return Err(Errno::ENODEV);
        }
        let buffer = self.allocate(bytes, |request| {
            let request = request.heap_mask(mask).name("/dev/ion");
            let request = if align > PAGE { request.alignment(align) } else { request };
            if flags & CACHED != 0 { request.cached() } else { request }
        })?;
        Ok(buffer.into_fd())
    }

    /// Returns a handle of the open node for a new buffer.
    ///
    /// # Errors
    /// As open(2), if the node cannot be watched.
    pub fn ion_handle(&self, open: &OpenNode<'_>, buffer: OwnedFd) -> Result<c_int, Errno> {
        self.files.of(open, |handles| handles.import(buffer))
    }

    /// Returns a handle of the open node for a buffer's descriptor: the existing one, if the buffer
    /// has a handle.
    ///
    /// # Errors
    /// `EINVAL` if it is no buffer of the service.
    pub fn ion_import(&self, open: &OpenNode<'_>, fd: OwnedFd) -> Result<c_int, Errno> {
        let buffer = self.ours(open, fd)?;
        self.ion_handle(open, buffer)
    }

    /// Returns a new descriptor of a handle's buffer.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle; `EMFILE` if no descriptor is free.
    pub fn ion_share(&self, open: &OpenNode<'_>, handle: c_int) -> Result<OwnedFd, Errno> {
        self.files.of(open, |handles| handles.share(handle))
    }

    /// Drops one reference of a handle, and removes the handle with the last.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle.
    pub fn ion_free(&self, open: &OpenNode<'_>, handle: c_int) -> Result<(), Errno> {
        self.files.of(open, |handles| handles.free(handle))
    }

    /// Makes data that the CPU wrote visible to devices, and data that devices wrote visible to the
    /// CPU.
    ///
    /// # Errors
    /// `EINVAL` if it is no buffer of the service; the errors of its exporter.
    pub fn ion_sync(&self, open: &OpenNode<'_>, fd: OwnedFd) -> Result<(), Errno> {
        let buffer = self.ours(open, fd)?;
        for phase in [Phase::Start, Phase::End] {
            sync(&buffer, CpuAccess::ReadWrite, phase).map_err(local)?;
        }
        Ok(())
    }

    /// Returns `struct ion_heap_data` of each usable heap, by descending id.
    ///
    /// # Errors
    /// `ENOTCONN` if no service answers.
    pub fn ion_heaps(&self) -> Result<Vec<[u8; HEAP]>, Errno> {
        let entry = |heap: &Heap| {
            let mut entry = [0; HEAP];
            // The last byte of the name stays NUL: names have at most 31 bytes.
            for (to, from) in entry[..31].iter_mut().zip(heap.name.bytes()) {
                *to = from;
            }
            let kind = heap.kind.map_or(u32::MAX, |kind| u32::from(kind.number()));
            entry[32..36].copy_from_slice(&kind.to_ne_bytes());
            entry[36..40].copy_from_slice(&heap.id.to_ne_bytes());
            entry
        };
        Ok(self.heaps()?.iter().map(entry).collect())
    }

    /// Returns the descriptor if it is a buffer of the service.
    fn ours(&self, open: &OpenNode<'_>, fd: OwnedFd) -> Result<OwnedFd, Errno> {
        let inode = fstat(&fd)?.st_ino;
        // Queries the service only for buffers without a handle here.
        if !self.files.of(open, |handles| Ok(handles.knows(inode)))? {
            self.client()?.describe(&fd).map_err(|_| Errno::EINVAL)?;
        }
        Ok(fd)
    }
}

fn query(nodes: &Nodes, address: u64, program: &impl Program) -> Result<c_int, Errno> {
    let mut data = Argument::read(program, address, DATA)?;
    if [4, 16, 20].iter().any(|place| data.u32(*place) != 0) {
        return Err(Errno::EINVAL);
    }
    let (room, place) = (data.u32(0), data.u64(8));
    if place != 0 && room == 0 {
        return Err(Errno::EINVAL);
    }
    let mut heaps = nodes.ion_heaps()?;
    if place != 0 {
        heaps.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        program.write(place, heaps.as_flattened())?;
    }
    data.store(0, u32::try_from(heaps.len()).unwrap_or(u32::MAX))?;
    Ok(0)
}

/// Answers a request for handles.
fn legacy(
    nodes: &Nodes,
    open: &OpenNode<'_>,
    number: Number,
    address: u64,
    program: &impl Program,
) -> Result<c_int, Errno> {
    match number.0 {
        LEGACY_ALLOC | LEGACY_ALLOC_32 => {
            let mut data = Argument::read(program, address, number.size())?;
            data.check_writable()?;
            let (bytes, align, rest) = match number.0 {
                LEGACY_ALLOC => (data.u64(0), data.u64(8), 16),
                _ => (u64::from(data.u32(0)), u64::from(data.u32(4)), 8),
            };
            // Before the files are locked, because an allocation takes longer than the lock may be
            // held.
            let buffer = nodes.ion_allocate(bytes, align, data.u32(rest), data.u32(rest + 4))?;
            let handle = nodes.ion_handle(open, buffer)?;
            data.store(rest + 8, handle.cast_unsigned())?;
        }
        FREE => {
            let handle = Argument::read(program, address, 4)?.int(0);
            if handle == 0 && nodes.settings.interface == Interface::Both {
                return Err(Errno::ENOTTY);
            }
            nodes.ion_free(open, handle)?;
        }
        MAP | SHARE => {
            let mut data = Argument::read(program, address, 8)?;
            data.check_writable_for_fd()?;
            let buffer = nodes.ion_share(open, data.int(0))?;
            data.give(4, buffer, true)?;
        }
        IMPORT => {
            let mut data = Argument::read(program, address, 8)?;
            data.check_writable()?;
            let handle = nodes.ion_import(open, program.copy(data.int(4))?)?;
            data.store(0, handle.cast_unsigned())?;
        }
        SYNC => {
            let number = Argument::read(program, address, 8)?.int(4);
            nodes.ion_sync(open, program.copy(number)?)?;
        }
        _ => return Err(unknown(nodes.settings.interface, number)),
    }
    Ok(0)
}
