// SPDX-License-Identifier: Apache-2.0
//! Retries devices that were missing, or closed to the service, when it started. At boot, modules
//! are loaded and udev sets permissions at the same time.

use crate::allocator::Allocator;
use crate::sys::dma_heap;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;

/// Directory of the kernel's devices.
const DIRECTORY: &str = "/dev";

/// Watches the directories in which memory devices appear.
pub(crate) struct DeviceWatcher {
    events: Inotify,
    devices: WatchDescriptor,
}

impl DeviceWatcher {
    /// Prepares to watch. Call it before the heaps are made, so that no device is missed, and
    /// before the seccomp filter: it makes an inotify instance.
    ///
    /// # Errors
    /// `EMFILE` beyond the user's inotify instances or the process's descriptors; `ENOSPC` beyond
    /// the user's watches.
    pub(crate) fn new() -> io::Result<Self> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let devices = watch(&events, Path::new(DIRECTORY))?;
        let watcher = Self { events, devices };
        watcher.watch_dma_heaps()?;
        Ok(watcher)
    }

    /// Starts the watching thread if a heap has a preferred device that it could not use. The
    /// thread ends at the first event after the allocator ended.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start(self, allocator: &Arc<Allocator>) -> io::Result<()> {
        if !allocator.lacks_devices() {
            return Ok(());
        }
        let allocator = Arc::downgrade(allocator);
        thread::Builder::new().name("device-watcher".to_owned()).spawn(move || {
            if let Err(error) = self.run(&allocator) {
                log::info!("no longer waiting for devices to appear: {error}");
            }
        })?;
        Ok(())
    }

    fn run(&self, allocator: &Weak<Allocator>) -> io::Result<()> {
        loop {
            let events = self.events.read_events()?;
            if !events.iter().any(|event| self.concerns(event)) {
                continue;
            }
            self.watch_dma_heaps()?;
            let Some(allocator) = allocator.upgrade() else { return Ok(()) };
            allocator.retry_devices();
        }
    }

    /// Returns whether an event may be about a memory device.
    fn concerns(&self, event: &InotifyEvent) -> bool {
        let is_memory =
            |name: &str| matches!(name, "dma_heap" | "ion" | "udmabuf") || name.starts_with("ashmem");
        let name = event.name.as_deref().and_then(|name| name.to_str());
        event.wd != self.devices || name.is_some_and(is_memory)
    }

    /// Watches the directory of the dma-heaps, which the kernel makes with the first of them. A
    /// second watch of the same directory changes nothing.
    fn watch_dma_heaps(&self) -> io::Result<()> {
        match watch(&self.events, Path::new(dma_heap::DIRECTORY)) {
            Err(Errno::ENOENT | Errno::EACCES) => Ok(()),
            watched => Ok(watched.map(drop)?),
        }
    }
}

fn watch(events: &Inotify, directory: &Path) -> nix::Result<WatchDescriptor> {
    let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    events.add_watch(directory, appears | AddWatchFlags::IN_ONLYDIR)
}
