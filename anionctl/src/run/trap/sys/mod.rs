// SPDX-License-Identifier: Apache-2.0
//! seccomp's user notification (seccomp_unotify(2)), for which there is no library.

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, seccomp_notif_sizes, sock_filter};
use nix::errno::Errno;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::ffi::{c_int, c_long, c_uint, c_ulong};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6): answers run on the caller's processor.
const SYNC_WAKE_UP: c_ulong = 1;

/// A system call that waits for its answer.
pub(super) struct Notification {
    /// Its id in the answer.
    pub(super) id: u64,
    /// The thread that made it; 0 if this process's namespace does not contain it.
    pub(super) thread: u32,
    /// The call's number.
    pub(super) number: c_long,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel executes the call.
    Untouched,
    /// The call returns this.
    Value(i64),
    /// The call fails.
    Fails(Errno),
}

/// Sets up `command` before it is executed: its process installs the filter, sends the descriptor
/// that receives its calls through `socket`, and blocks exactly the signals of `blocked`. The
/// kernel kills the process when the thread that started it ends.
pub(super) fn before_exec(
    command: &mut Command,
    mut filter: Vec<sock_filter>,
    blocked: SigSet,
    socket: UnixStream,
) {
    let prepare = move || {
        // Only its parent answers trapped calls.
        set_pdeathsig(Signal::SIGKILL)?;
        // The kernel requires it without root: a filter could deceive programs that have more
        // rights than the process that installed it.
        set_no_new_privs()?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
        send(&socket, &install(&mut filter)?)
    };
    // SAFETY: after fork, a lock that another thread held stays locked. `prepare` takes none: it
    // makes system calls, prctl, sigprocmask, seccomp, fcntl, ioctl, sendmsg and close, from memory
    // that it owns or has on its stack, and allocates and frees nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Sends a descriptor, with one byte.
fn send(socket: &UnixStream, fd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Installs a filter for this process and its descendants. The result is close-on-exec.
///
/// # Errors
/// `ENOSYS` and `EINVAL` if the kernel has no user notification; `EBUSY` if another filter of this
/// process has a listener; `EACCES` without no_new_privs; `EOPNOTSUPP` if an answer cannot contain
/// a descriptor (before Linux 5.14), or if the kernel's structures are unknown here.
fn install(filter: &mut [sock_filter]) -> io::Result<OwnedFd> {
    let killable = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let listener = match install_with(killable, filter) {
        // Before Linux 5.19.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            install_with(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, filter)?
        }
        result => result?,
    };
    let found = sizes()?;
    if (usize::from(found.seccomp_notif), usize::from(found.seccomp_notif_resp))
        != (size_of::<seccomp_notif>(), size_of::<seccomp_notif_resp>())
    {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    // No call has the number 0, so a kernel that supports the flag returns ENOENT.
    match (Listener { fd: listener.try_clone()? }).answer_with(0, &listener, false) {
        Err(Errno::EINVAL) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        _ => Ok(listener),
    }
}

fn install_with(flags: c_ulong, filter: &mut [sock_filter]) -> io::Result<OwnedFd> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads `program` and the `len` instructions that it points to, both alive
    // during the call, and writes nothing.
    let listener =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let listener = RawFd::try_from(Errno::result(listener)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for this call, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn sizes() -> io::Result<seccomp_notif_sizes> {
    let mut sizes = seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    let none: c_uint = 0;
    // SAFETY: the kernel writes one `seccomp_notif_sizes` at the pointer, which refers to `sizes`
    // on this stack.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, none, &raw mut sizes) };
    Errno::result(result)?;
    Ok(sizes)
}

/// The descriptor that receives calls.
///
/// Invariant: the kernel's `seccomp_notif` and `seccomp_notif_resp` have the sizes of libc's, which
/// [`install`] has checked for the process that `fd` comes from, of the same kernel.
pub(super) struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Wraps the result of [`install`]. If the kernel supports it, calls and answers stay on one
    /// processor.
    pub(super) fn new(fd: OwnedFd) -> Self {
        // SAFETY: the argument is a number; no memory is touched. Kernels before 6.6 return EINVAL,
        // and then a call takes longer.
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        Self { fd }
    }

    /// Waits for the next call.
    ///
    /// # Errors
    /// `ENOENT` if its thread has ended, or if no process has the filter; `EINTR` after a signal.
    pub(super) fn receive(&self) -> Result<Notification, Errno> {
        let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut call = seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the kernel writes one `seccomp_notif` at the pointer, which refers to `call` on
        // this stack; its size is that of libc's by the type's invariant. The kernel requires
        // zeroes there.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
        Errno::result(result)?;
        Ok(Notification {
            id: call.id,
            thread: call.pid,
            number: c_long::from(call.data.nr),
            arguments: call.data.args,
        })
    }

    /// Returns whether the call still waits. While it waits, its thread's number is not reused.
    pub(super) fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one u64 at the pointer, which refers to `id` on this stack.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// `ENOENT` if the call no longer waits.
    pub(super) fn answer(&self, id: u64, answer: Answer) -> Result<(), Errno> {
        let mut response = seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
        match answer {
            Answer::Untouched => response.flags = CONTINUE,
            Answer::Value(value) => response.val = value,
            Answer::Fails(errno) => response.error = -(errno as c_int),
        }
        // SAFETY: the kernel reads one `seccomp_notif_resp` at the pointer, which refers to
        // `response` on this stack; its size is that of libc's by the type's invariant.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
        Errno::result(result).map(drop)
    }

    /// Adds a copy of a descriptor to the process that made the call, and returns its number there.
    ///
    /// # Errors
    /// `ENOENT` if the call no longer waits; `EMFILE` if the process has no free number.
    pub(super) fn give(&self, id: u64, fd: impl AsFd, close_on_exec: bool) -> Result<c_int, Errno> {
        self.add(id, 0, fd, close_on_exec)
    }

    /// Adds a descriptor and answers the call with it, atomically: both happen or neither.
    ///
    /// # Errors
    /// As [`Self::give`].
    pub(super) fn answer_with(&self, id: u64, fd: impl AsFd, close_on_exec: bool) -> Result<(), Errno> {
        self.add(id, SEND, fd, close_on_exec).map(drop)
    }

    fn add(&self, id: u64, flags: u32, fd: impl AsFd, close_on_exec: bool) -> Result<c_int, Errno> {
        let descriptor = fd.as_fd().as_raw_fd();
        let addition = seccomp_notif_addfd {
            id,
            flags,
            srcfd: u32::try_from(descriptor).map_err(|_| Errno::EBADF)?,
            newfd: 0,
            newfd_flags: if close_on_exec { CLOSE_ON_EXEC } else { 0 },
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd`, whose size is part of the request's
        // number, at the pointer, which refers to `addition` on this stack. The descriptor is open
        // for the duration of the borrow.
        let result =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const addition) };
        Errno::result(result)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// These fields of the kernel's structures have 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "1, of linux/seccomp.h")]
const CONTINUE: u32 = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
#[expect(clippy::cast_possible_truncation, reason = "2, of linux/seccomp.h")]
const SEND: u32 = libc::SECCOMP_ADDFD_FLAG_SEND as u32;
const CLOSE_ON_EXEC: u32 = libc::O_CLOEXEC.unsigned_abs();
