// SPDX-License-Identifier: Apache-2.0
//! Locks buffers for access by the CPU.

use crate::buffer::Buffer;
use crate::error::Error;
use anion_layout::Usage;
use anion_memory::Access;
use anion_memory::dma_buf::{CpuAccess, Phase, sync};
use anion_memory::map::SharedMap;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::PoisonError;

/// A part of an image, in pixels: the right column and the bottom row are excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Rect {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) right: i32,
    pub(crate) bottom: i32,
}

impl Buffer {
    /// Locks the buffer: the CPU may access it until [`Buffer::unlock`]. Returns the start of the
    /// image, for any region. Locks nest, and do not exclude locks of other imports of the buffer.
    ///
    /// # Errors
    /// `BadValue` if the usage has no CPU bits or exceeds that of the allocation, if the region is
    /// not inside the image, or if the fence cannot be polled; `NoResources` if the address space
    /// is full.
    pub(crate) fn lock(
        &self,
        usage: u64,
        region: Rect,
        fence: Option<OwnedFd>,
    ) -> Result<NonNull<u8>, Error> {
        let access = self.access_for(usage)?;
        self.check_region(region)?;
        if let Some(fence) = fence {
            wait_for(&fence)?;
        }
        let start = self.mapping()?.as_ptr();
        sync(self.pixels_fd(), access, Phase::Start)?;
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).push(access);
        Ok(start)
    }

    /// Undoes the last lock.
    ///
    /// # Errors
    /// `BadBuffer` if the buffer is not locked.
    pub(crate) fn unlock(&self) -> Result<(), Error> {
        let last = self.locks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(sync(self.pixels_fd(), last.ok_or(Error::BadBuffer)?, Phase::End)?)
    }

    /// Makes data that the CPU has written visible to devices, and data of devices visible to the
    /// CPU. The buffer stays locked.
    ///
    /// # Errors
    /// `BadBuffer` if the buffer is not locked.
    pub(crate) fn synchronise(&self) -> Result<(), Error> {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let access = locks.into_iter().reduce(either).ok_or(Error::BadBuffer)?;
        sync(self.pixels_fd(), access, Phase::End)?;
        Ok(sync(self.pixels_fd(), access, Phase::Start)?)
    }

    fn access_for(&self, usage: u64) -> Result<CpuAccess, Error> {
        let (asked, allowed) = (Usage(usage), self.handle.request().usage);
        let is_cpu = asked.0 & !(Usage::CPU_READ | Usage::CPU_WRITE) == 0;
        let may_write = allowed.has(Usage::CPU_WRITE) && self.handle.access() == Access::ReadWrite;
        let (reads, writes) = (asked.has(Usage::CPU_READ), asked.has(Usage::CPU_WRITE));
        let is_allowed = (!reads || allowed.has(Usage::CPU_READ)) && (!writes || may_write);
        if !is_cpu || !is_allowed || asked.unknown(0) != 0 {
            return Err(Error::BadValue);
        }
        match (reads, writes) {
            (true, true) => Ok(CpuAccess::ReadWrite),
            (true, false) => Ok(CpuAccess::Read),
            (false, true) => Ok(CpuAccess::Write),
            (false, false) => Err(Error::BadValue),
        }
    }

    /// Checks that a region is inside the image. The empty region at its corner means the whole
    /// image.
    fn check_region(&self, region: Rect) -> Result<(), Error> {
        let is_inside = |from: i32, to: i32, limit: u32| {
            0 <= from && from <= to && u32::try_from(to).is_ok_and(|to| to <= limit)
        };
        let request = self.handle.request();
        let is_inside = is_inside(region.left, region.right, request.width)
            && is_inside(region.top, region.bottom, request.height);
        if is_inside { Ok(()) } else { Err(Error::BadValue) }
    }

    /// Returns the mapping of the pixels, which is created once. If two threads create it at once,
    /// one mapping is dropped.
    fn mapping(&self) -> Result<&SharedMap, Error> {
        if let Some(map) = self.pixels.get() {
            return Ok(map);
        }
        let bytes = usize::try_from(self.handle.size()).map_err(|_| Error::NoResources)?;
        let is_written = self.handle.request().usage.has(Usage::CPU_WRITE);
        let access = if is_written { self.handle.access() } else { Access::ReadOnly };
        let map = SharedMap::new(self.pixels_fd(), bytes, access)?;
        Ok(self.pixels.get_or_init(|| map))
    }
}

impl Drop for Buffer {
    /// Ends the accesses of all locks.
    fn drop(&mut self) {
        while self.unlock().is_ok() {}
    }
}

fn either(one: CpuAccess, other: CpuAccess) -> CpuAccess {
    if one == other { one } else { CpuAccess::ReadWrite }
}

/// Waits until a fence has signalled, without a time limit.
fn wait_for(fence: &OwnedFd) -> Result<(), Error> {
    loop {
        let mut polled = [PollFd::new(fence.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(Errno::ENOMEM) => return Err(Error::NoResources),
            Err(_) => return Err(Error::BadValue),
            Ok(_) if polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL)) => {
                return Err(Error::BadValue);
            }
            Ok(_) => return Ok(()),
        }
    }
}
