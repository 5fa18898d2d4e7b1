// SPDX-License-Identifier: Apache-2.0
//! The handles of the legacy ION, which name buffers within an open file of the device.

use crate::open_node::{OpenNode, reopen};
use crate::service::local;
use anion_memory::lease::is_only_holder;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The handles of one open file.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    buffers: BTreeMap<c_int, Handle>,
    last: c_int,
}

#[derive(Debug)]
struct Handle {
    fd: OwnedFd,
    inode: libc::ino_t,
    references: u32,
}

impl Handles {
    /// Returns a handle for a buffer: the existing one, if the buffer has a handle. The first is 1.
    pub(crate) fn import(&mut self, fd: OwnedFd) -> Result<c_int, Errno> {
        let inode = fstat(&fd)?.st_ino;
        if let Some((number, handle)) = self.buffers.iter_mut().find(|(_, handle)| handle.inode == inode) {
            handle.references += 1;
            return Ok(*number);
        }
        self.last += 1;
        self.buffers.insert(self.last, Handle { fd, inode, references: 1 });
        Ok(self.last)
    }

    /// Drops one reference of a handle, and removes the handle with the last.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle.
    pub(crate) fn free(&mut self, number: c_int) -> Result<(), Errno> {
        let handle = self.buffers.get_mut(&number).ok_or(Errno::EINVAL)?;
        handle.references -= 1;
        if handle.references == 0 {
            self.buffers.remove(&number);
        }
        Ok(())
    }

    /// Returns a new descriptor of a handle's buffer.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle; `EMFILE` if no descriptor is free.
    pub(crate) fn share(&self, number: c_int) -> Result<OwnedFd, Errno> {
        let handle = self.buffers.get(&number).ok_or(Errno::EINVAL)?;
        handle.fd.try_clone().map_err(local)
    }

    /// Returns whether a handle refers to the file with this inode.
    pub(crate) fn knows(&self, inode: libc::ino_t) -> bool {
        self.buffers.values().any(|handle| handle.inode == inode)
    }
}

#[derive(Debug)]
struct File {
    /// Its own open file description, with which it detects others.
    watch: OwnedFd,
    handles: Handles,
}

/// The open files that have handles, by inode.
#[derive(Debug)]
pub(crate) struct Files {
    pid: u32,
    files: Mutex<BTreeMap<libc::ino_t, File>>,
    /// The number of handles.
    count: AtomicUsize,
    /// The handles of a child of fork(2), with a lock of their own: the child's copy of the
    /// parent's lock may be held by a thread that the child does not have.
    child: OnceLock<Box<Files>>,
}

impl Default for Files {
    fn default() -> Self {
        Self::with(BTreeMap::new())
    }
}

impl Files {
    fn with(files: BTreeMap<libc::ino_t, File>) -> Self {
        let count = AtomicUsize::new(files.len());
        Self { pid: process::id(), files: Mutex::new(files), count, child: OnceLock::new() }
    }

    /// Returns the files of this process. A child begins with its copy of the parent's, unless a
    /// thread of the parent had locked them during the fork.
    fn own(&self) -> &Self {
        let pid = process::id();
        let mut files = self;
        while files.pid != pid {
            files = files.child.get_or_init(|| {
                let inherited = files.files.try_lock().map(|mut files| mem::take(&mut *files));
                Box::new(Self::with(inherited.unwrap_or_default()))
            });
        }
        files
    }

    /// Calls `run` with the handles of an open file, which has none at first.
    ///
    /// # Errors
    /// Those of `run`; if the file cannot be watched, those of open(2).
    pub(crate) fn of<T>(
        &self,
        open: &OpenNode<'_>,
        run: impl FnOnce(&mut Handles) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let inode = open.inode()?;
        let own = self.own();
        let mut files = own.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|_, file| !is_closed(file));
        let file = match files.entry(inode) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let watch = reopen(open.fd, OFlag::O_RDONLY | OFlag::O_CLOEXEC)?;
                place.insert(File { watch, handles: Handles::default() })
            }
        };
        let result = run(&mut file.handles);
        own.count.store(files.len(), Ordering::Relaxed);
        result
    }

    /// Returns whether there may be any handles.
    pub(crate) fn is_in_use(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0 || self.child.get().is_some()
    }

    /// Frees the handles of files whose descriptors are all closed. Does nothing while another
    /// thread uses the handles.
    pub(crate) fn release_closed(&self) {
        if !self.is_in_use() {
            return;
        }
        let own = self.own();
        if let Ok(mut files) = own.files.try_lock() {
            files.retain(|_, file| !is_closed(file));
            own.count.store(files.len(), Ordering::Relaxed);
        }
    }
}

/// Returns whether all descriptors of the file are closed, except the watching one.
fn is_closed(file: &File) -> bool {
    is_only_holder(file.watch.as_fd()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;
    use crate::open_node::make;
    use std::fs;

    fn device(path: &str) -> OwnedFd {
        fs::File::open(path).expect("open").into()
    }

    #[test]
    fn a_buffer_has_one_handle_until_its_last_reference() {
        let mut handles = Handles::default();
        let one = handles.import(device("/dev/null")).expect("a handle");
        assert_eq!((one, handles.import(device("/dev/null"))), (1, Ok(1)));
        let other = handles.import(device("/dev/zero")).expect("another");
        handles.free(one).expect("one reference");
        drop(handles.share(one).expect("another is left"));
        handles.free(one).expect("the last");
        assert_eq!((handles.free(one), handles.share(one).err()), (Err(Errno::EINVAL), Some(Errno::EINVAL)));
        drop(handles.share(other).expect("it is still there"));
        assert!(handles.import(device("/dev/null")).expect("a handle") > other, "numbers do not repeat");
    }

    #[test]
    fn handles_are_those_of_the_open_file_and_are_freed_when_it_is_closed() {
        let files = Files::default();
        let fd = make(Node::Ion, OFlag::O_RDONLY).expect("opened");
        let copy = fd.try_clone().expect("a copy");
        let import = |fd: &OwnedFd| {
            files
                .of(&OpenNode::of(fd.as_fd()).expect("a node"), |handles| handles.import(device("/dev/null")))
        };
        assert_eq!((import(&fd), import(&copy)), (Ok(1), Ok(1)));
        drop(fd);
        files.release_closed();
        assert_eq!(files.count.load(Ordering::Relaxed), 1, "a copy is open");
        drop(copy);
        files.release_closed();
        assert_eq!(files.count.load(Ordering::Relaxed), 0);
    }
}
