// SPDX-License-Identifier: Apache-2.0
//! The program's own memory and descriptors, as requests name them.

use super::Text;
use anion_nodes::Program;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// The process that this library is in.
pub(crate) struct OwnProcess;

/// Which way memory is copied.
#[derive(Clone, Copy)]
enum Way {
    FromProgram,
    ToProgram,
}

/// Has the kernel copy between the program's memory and this library's, so that an address that is
/// nowhere is an error and no signal.
fn copy(address: u64, own: *mut c_void, length: usize, way: Way) -> Result<(), Errno> {
    let place = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let local = libc::iovec { iov_base: own, iov_len: length };
    let remote = libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(place), iov_len: length };
    let copy = match way {
        Way::FromProgram => libc::process_vm_readv,
        Way::ToProgram => libc::process_vm_writev,
    };
    let pid = nix::unistd::getpid().as_raw();
    // SAFETY: `local` is `length` bytes that the caller has borrowed for this call, for writing if
    // they are written. What `remote` names is of the program: the kernel checks that it is mapped
    // so, and the program has asked for it to be read or written.
    let copied = unsafe { copy(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match Errno::result(copied) {
        Ok(copied) if usize::try_from(copied) == Ok(length) => Ok(()),
        Ok(_) => Err(Errno::EFAULT),
        // A filter of system calls does not permit it: as the C library's functions do, this trusts
        // the program's pointers.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) if place != 0 => {
            let (from, to) = match way {
                Way::FromProgram => (remote.iov_base, own),
                Way::ToProgram => (own, remote.iov_base),
            };
            // SAFETY: `own` is as above. The other address is one that the program passed to
            // ioctl(2) for as many bytes, which are not this library's and so do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), length) };
            Ok(())
        }
        Err(_) => Err(Errno::EFAULT),
    }
}

impl Program for OwnProcess {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        copy(address, bytes.as_mut_ptr().cast(), bytes.len(), Way::FromProgram)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        copy(address, bytes.as_ptr().cast_mut().cast(), bytes.len(), Way::ToProgram)
    }

    fn install(&self, fd: OwnedFd, close_on_exec: bool) -> Result<c_int, Errno> {
        let flags = if close_on_exec { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
        fcntl(&fd, FcntlArg::F_SETFD(flags))?;
        Ok(fd.into_raw_fd())
    }

    fn copy(&self, number: c_int) -> Result<OwnedFd, Errno> {
        let fd = super::borrow(number).ok_or(Errno::EBADF)?;
        fd.try_clone_to_owned().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EBADF)))
    }
}

/// Returns the number of a descriptor that is the program's from now on.
pub(crate) fn give(fd: OwnedFd) -> c_int {
    fd.into_raw_fd()
}

/// Takes over a descriptor that the program gave with its call.
pub(crate) fn take(fd: c_int) -> OwnedFd {
    // SAFETY: fdopendir(3) is given the descriptor, which is one of a node, so it is open; the
    // program uses it no more.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Returns a stream of a descriptor that was opened for it; NULL with errno if there is no memory.
pub(crate) fn stream(fd: c_int, mode: Text<'_>) -> *mut libc::FILE {
    // SAFETY: `mode` is the program's text for fopen(3), which takes the same ones; the descriptor
    // is open, and nothing but the stream closes it.
    let stream = unsafe { libc::fdopen(fd, mode.0) };
    if stream.is_null() {
        drop(take(fd));
    }
    stream
}
