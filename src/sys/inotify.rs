// SPDX-License-Identifier: Apache-2.0
//! Reports when a description of a file is closed for the last time.

use crate::sys::fd::DescriptorDirectory;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::os::fd::{AsFd, BorrowedFd};
use std::{fs, io};

/// One watched file. The kernel does not reuse a number before it has assigned 2³¹ of them.
pub type Watch = WatchDescriptor;

/// Most reads in one call, of some hundred events each.
const MAX_READS: usize = 64;
/// If a read returns fewer events than this, the queue is empty: a read returns some hundred.
const SHORT_READ: usize = 64;

/// Watches files for closes, through one inotify queue. If the system provides no queue, it watches
/// nothing.
#[derive(Debug)]
pub struct CloseWatcher {
    /// The queue, or the error of making it.
    queue: Result<Inotify, Errno>,
}

/// Events of a [`CloseWatcher`].
#[derive(Debug, Default)]
pub struct Closes {
    /// Files with a closed description.
    pub watches: Vec<Watch>,
    /// The kernel dropped events: any watched file may have been closed.
    pub overflowed: bool,
}

impl CloseWatcher {
    /// Makes a queue. Without one, no file can be watched, as if all watches were used up:
    /// [`CloseWatcher::shortage`] names the limit. The user may have no queue left, or the kernel
    /// may not support any.
    pub fn new() -> Self {
        Self { queue: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) }
    }

    /// Returns the reason why [`CloseWatcher::watch`] returned `ENOSPC`: the limits, their files
    /// and values. One file has the limit of the user; another has the limit of the user in this
    /// user namespace, where that is lower.
    pub fn shortage(&self) -> String {
        let (what, name) = match &self.queue {
            Ok(_) => ("watches", "watches"),
            Err(Errno::ENOSYS) => return "the kernel has no inotify (CONFIG_INOTIFY_USER)".to_owned(),
            Err(_) => ("queues", "instances"),
        };
        let limits =
            [format!("/proc/sys/fs/inotify/max_user_{name}"), format!("/proc/sys/user/max_inotify_{name}")];
        let told = limits.map(|file| match fs::read_to_string(&file) {
            Ok(value) => format!("{file} is {}", value.trim()),
            Err(error) => format!("{file}: {error}"),
        });
        format!("the user's inotify {what} are used up ({})", told.join(", "))
    }

    /// Starts watching the file behind `fd` until the file no longer exists. Watching a watched
    /// file again returns the same watch, so equal watches prove that two descriptors refer to one
    /// file.
    ///
    /// # Errors
    /// `ENOSPC` if the user's watches (`fs.inotify.max_user_watches`) are used up or there is no
    /// queue; `EACCES` if the file is not readable.
    pub fn watch(&self, fd: impl AsFd) -> io::Result<Watch> {
        let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_CLOSE_NOWRITE;
        let queue = self.queue.as_ref().map_err(|_| Errno::ENOSPC)?;
        Ok(queue.add_watch(DescriptorDirectory::path(fd).as_str(), events)?)
    }

    /// Stops watching a file.
    pub fn forget(&self, watch: Watch) {
        if let Ok(queue) = &self.queue {
            // The kernel has already removed the watch of a file that no longer exists.
            let _ = queue.rm_watch(watch);
        }
    }

    /// Returns the queued events, each file once; empty if there are none. Of a very long queue it
    /// returns only the head, so that clients that close faster than it reads do not delay others.
    /// The kernel queues a close before close(2) returns.
    ///
    /// # Errors
    /// As read(2) of an inotify descriptor; an empty queue is not an error.
    pub fn closes(&self) -> io::Result<Closes> {
        let mut seen = Closes::default();
        let Ok(queue) = &self.queue else { return Ok(seen) };
        for _ in 0..MAX_READS {
            let events = match queue.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                // The next call returns the error; the kernel will not repeat what it has told.
                Err(_) if seen.overflowed || !seen.watches.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            let is_drained = events.len() < SHORT_READ;
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    seen.overflowed = true;
                } else if !event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    seen.watches.push(event.wd);
                }
            }
            if is_drained {
                break;
            }
        }
        seen.watches.sort_unstable();
        seen.watches.dedup();
        Ok(seen)
    }

    /// Returns a descriptor that is readable when [`CloseWatcher::closes`] would return events;
    /// `None` without a queue.
    pub fn ready(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_ref().ok()?.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::DescriptorDirectory;
    use crate::sys::map::SharedMap;
    use crate::sys::memfd::MemfdFactory;
    use crate::units::Access;

    #[test]
    fn the_close_is_queued_when_the_last_of_descriptor_and_mapping_goes() {
        let watcher = CloseWatcher::new();
        let directory = DescriptorDirectory::open().expect("/proc");
        let own = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let watch = watcher.watch(&own).expect("watch");
        let client = directory.reopen(&own, Access::ReadWrite).expect("reopened");
        let copy = client.try_clone().expect("dup");
        let mapping = SharedMap::new(&client, 4096, Access::ReadWrite).expect("mapped");
        drop(client);
        drop(copy);
        assert!(watcher.closes().expect("read").watches.is_empty(), "the mapping still holds it");
        drop(mapping);
        assert_eq!(watcher.closes().expect("read").watches, [watch]);
    }

    #[test]
    fn without_a_queue_no_file_is_watched_and_the_limit_is_named() {
        let watcher = CloseWatcher { queue: Err(Errno::EMFILE) };
        let own = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let error = watcher.watch(&own).expect_err("no queue");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(watcher.ready().is_none() && watcher.closes().expect("read").watches.is_empty());
        let why = watcher.shortage();
        assert!(why.contains("queues are used up") && why.contains("max_user_instances is "), "{why}");
        let why = CloseWatcher::new().shortage();
        assert!(why.contains("watches are used up") && why.contains("max_user_watches is "), "{why}");
    }

    #[test]
    fn two_descriptors_of_one_file_have_one_watch() {
        let watcher = CloseWatcher::new();
        let directory = DescriptorDirectory::open().expect("/proc");
        let factory = MemfdFactory::probe().expect("memfd");
        let (one, other) =
            (factory.create("one", 4096).expect("memfd"), factory.create("other", 4096).expect("memfd"));
        let again = directory.reopen(&one, Access::ReadOnly).expect("reopened");
        let watch = watcher.watch(&one).expect("watch");
        assert_eq!(watcher.watch(&again).expect("watch"), watch);
        assert_ne!(watcher.watch(&other).expect("watch"), watch);
    }
}
