// SPDX-License-Identifier: Apache-2.0
//! The handles of the legacy ION, which named buffers within a client: here, within what `ion_open`
//! gave.

use crate::error::Failure;
use crate::sys::duplicate;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// The handles of one client.
#[derive(Default)]
pub(crate) struct Handles {
    buffers: BTreeMap<c_int, Handle>,
    last: c_int,
}

struct Handle {
    fd: OwnedFd,
    inode: libc::ino_t,
    references: u32,
}

/// The clients, by the inode of the file that stands for one: duplicates of its descriptor are the
/// same client.
static CLIENTS: Mutex<BTreeMap<libc::ino_t, Handles>> = Mutex::new(BTreeMap::new());

fn inode_of(fd: impl AsFd) -> Result<libc::ino_t, Failure> {
    Ok(fstat(fd).map_err(io::Error::from).map_err(Failure::system("fstat"))?.st_ino)
}

fn not_a_client() -> Failure {
    Failure::system("fd")(io::Error::from_raw_os_error(libc::ENOTTY))
}

/// Makes a client: an empty file, in place of the device's.
pub(crate) fn open() -> Result<OwnedFd, Failure> {
    let file = memfd_create(c"ion", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
    let file = file.map_err(Failure::system("memfd_create"))?;
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    clients.insert(inode_of(&file)?, Handles::default());
    Ok(file)
}

/// Forgets a client with all its handles.
pub(crate) fn close(fd: c_int) -> Result<(), Failure> {
    let inode = inode_of(duplicate(fd).map_err(Failure::system("fd"))?)?;
    let handles = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&inode);
    handles.map(drop).ok_or_else(not_a_client)
}

/// Checks that `fd` is a client.
///
/// # Errors
/// As [`of`].
pub(crate) fn check(fd: c_int) -> Result<(), Failure> {
    of(fd, |_| Ok(()))
}

/// Does something with the handles of a client.
///
/// # Errors
/// `EBADF` if `fd` is not open, `ENOTTY` if it is not what `ion_open` gave.
pub(crate) fn of<T>(fd: c_int, run: impl FnOnce(&mut Handles) -> Result<T, Failure>) -> Result<T, Failure> {
    let inode = inode_of(duplicate(fd).map_err(Failure::system("fd"))?)?;
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    run(clients.get_mut(&inode).ok_or_else(not_a_client)?)
}

impl Handles {
    /// Returns a handle for a buffer: the one that it has already, if it has one.
    pub(crate) fn import(&mut self, fd: OwnedFd) -> Result<c_int, Failure> {
        let inode = inode_of(&fd)?;
        if let Some((number, handle)) = self.buffers.iter_mut().find(|(_, handle)| handle.inode == inode) {
            handle.references += 1;
            return Ok(*number);
        }
        self.last += 1;
        self.buffers.insert(self.last, Handle { fd, inode, references: 1 });
        Ok(self.last)
    }

    /// Takes one reference from a handle, and forgets it with the last.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle.
    pub(crate) fn free(&mut self, number: c_int) -> Result<(), Failure> {
        let handle = self.buffers.get_mut(&number).ok_or_else(|| unknown(number))?;
        handle.references -= 1;
        if handle.references == 0 {
            self.buffers.remove(&number);
        }
        Ok(())
    }

    /// Returns a new descriptor of a handle's buffer.
    ///
    /// # Errors
    /// `EINVAL` if there is no such handle; `EMFILE` if descriptors have run out.
    pub(crate) fn share(&self, number: c_int) -> Result<OwnedFd, Failure> {
        let handle = self.buffers.get(&number).ok_or_else(|| unknown(number))?;
        handle.fd.try_clone().map_err(Failure::system("no descriptor"))
    }
}

fn unknown(number: c_int) -> Failure {
    Failure::Argument(format!("handle is {number}, which is none of this client"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_buffer_has_one_handle_until_its_last_reference() {
        let file = || File::open("/dev/null").expect("open").into();
        let mut handles = Handles::default();
        let one = handles.import(file()).expect("a handle");
        assert_eq!(handles.import(file()).expect("the same"), one);
        let other = handles.import(File::open("/dev/zero").expect("open").into()).expect("another");
        assert_ne!(other, one);
        handles.free(one).expect("one reference");
        drop(handles.share(one).expect("another is left"));
        handles.free(one).expect("the last");
        for gone in [handles.free(one).err(), handles.share(one).err()] {
            assert!(matches!(gone, Some(Failure::Argument(_))), "{gone:?}");
        }
        handles.share(other).expect("it is still there");
        assert!(handles.import(file()).expect("a handle") > other, "numbers do not repeat");
    }
}
