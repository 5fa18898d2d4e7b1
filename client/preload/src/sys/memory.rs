// SPDX-License-Identifier: Apache-2.0
//! Accesses the program's own memory and descriptors.

use super::Text;
use anion_nodes::Program;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// The process of this library, during one request.
#[derive(Default)]
pub(crate) struct OwnProcess {
    /// Memory that the kernel has just checked for reading and writing.
    checked: Cell<Option<(usize, usize)>>,
}

/// Address of the process id: in a page that the kernel zeroes in a child. `None` if the kernel has
/// no such pages.
static PID: OnceLock<Option<&'static AtomicI32>> = OnceLock::new();

/// Creates the page, before the program has threads.
pub(crate) fn prepare() {
    PID.get_or_init(|| {
        let (length, protection) = (size_of::<AtomicI32>(), libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: without MAP_FIXED no existing mapping is replaced.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page was mapped above, and zero is what it has already.
        let wiped = unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) };
        // SAFETY: a page of zeros is a valid number, aligned, and never unmapped.
        (wiped == 0).then(|| unsafe { &*page.cast::<AtomicI32>() })
    });
}

/// Returns the process id, usually without a system call.
fn own_pid() -> libc::pid_t {
    let kept = PID.get().copied().flatten();
    match kept.map_or(0, |kept| kept.load(Ordering::Relaxed)) {
        0 => {
            let pid = nix::unistd::getpid().as_raw();
            if let Some(kept) = kept {
                kept.store(pid, Ordering::Relaxed);
            }
            pid
        }
        pid => pid,
    }
}

/// Has the kernel copy memory, so that an unmapped address causes an error and no signal.
///
/// # Errors
/// `EFAULT` if memory is not mapped with the required access; `EPERM` or `ENOSYS` if a filter of
/// system calls forbids it.
fn copy(from: *const u8, to: *mut u8, length: usize) -> Result<(), Errno> {
    let local = libc::iovec { iov_base: to.cast(), iov_len: length };
    let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: length };
    // SAFETY: the kernel checks that both ranges are mapped with this access. One or both are the
    // program's, which requested to have them read and written; the other one is borrowed by the
    // caller.
    let copied = unsafe { libc::process_vm_readv(own_pid(), &raw const local, 1, &raw const remote, 1, 0) };
    match Errno::result(copied) {
        Ok(copied) if usize::try_from(copied) == Ok(length) => Ok(()),
        Ok(_) => Err(Errno::EFAULT),
        Err(errno) => Err(errno),
    }
}

/// Has the kernel check that memory can be read and written, without changing it: the first and the
/// last word of at most a page, and so everything between. Takes a third of the time of [`copy`].
///
/// # Errors
/// `EFAULT` if not; `EINVAL` if it does not consist of words, or is longer; as [`copy`] for
/// filters.
fn touch(place: usize, length: usize) -> Result<(), Errno> {
    const WORD: usize = size_of::<u32>();
    if !place.is_multiple_of(WORD) || !(WORD..=SMALLEST_PAGE).contains(&length) {
        return Err(Errno::EINVAL);
    }
    let last = place.checked_add(length - WORD).ok_or(Errno::EFAULT)? / WORD * WORD;
    touch_word(place)?;
    if place / SMALLEST_PAGE == last / SMALLEST_PAGE { Ok(()) } else { touch_word(last) }
}

/// The smallest page size; all others are multiples of it.
const SMALLEST_PAGE: usize = 4096;

/// Has the kernel set no bits in an aligned word.
fn touch_word(place: usize) -> Result<(), Errno> {
    let operation = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    let or_zero = libc::FUTEX_OP(libc::FUTEX_OP_OR, 0, libc::FUTEX_OP_CMP_EQ, 0);
    let (unused, none) = (AtomicU32::new(0), 0_usize);
    // SAFETY: no thread waits at `unused`, on this stack. At `place` the kernel checks that a word
    // is mapped, and stores there the value that it has read, in one atomic step.
    let woken =
        unsafe { libc::syscall(libc::SYS_futex, unused.as_ptr(), operation, none, none, place, or_zero) };
    Errno::result(woken).map(drop)
}

/// Copies memory that has been checked.
fn copy_checked(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: one range is the caller's, borrowed for this call. The program has passed the other
    // one to ioctl(2) for as many bytes, which are not this library's and so do not overlap. The
    // kernel has checked it in this request. If the kernel may not check it, it is trusted as the C
    // library's functions trust a pointer.
    unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
}

fn place(address: u64) -> Result<usize, Errno> {
    usize::try_from(address).ok().filter(|address| *address != 0).ok_or(Errno::EFAULT)
}

impl OwnProcess {
    /// Returns whether the kernel has checked this memory in this request.
    fn is_checked(&self, place: usize, length: usize) -> bool {
        self.checked.get().is_some_and(|(start, checked)| {
            place >= start && place - start <= checked && length <= checked - (place - start)
        })
    }
}

impl Program for OwnProcess {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let place = place(address)?;
        let from = std::ptr::with_exposed_provenance_mut::<u8>(place);
        // Copies the memory onto itself, without changing it: most structures are written later.
        match touch(place, bytes.len()).or_else(|_| copy(from, from, bytes.len())) {
            Ok(()) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => {
                self.checked.set(Some((place, bytes.len())));
                copy_checked(from, bytes.as_mut_ptr(), bytes.len());
                Ok(())
            }
            Err(_) => copy(from, bytes.as_mut_ptr(), bytes.len()).map_err(|_| Errno::EFAULT),
        }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let place = place(address)?;
        let to = std::ptr::with_exposed_provenance_mut::<u8>(place);
        let is_checked = self.is_checked(place, bytes.len());
        let copied = if is_checked { Ok(()) } else { copy(bytes.as_ptr(), to, bytes.len()) };
        match copied {
            Ok(()) if !is_checked => Ok(()),
            Ok(()) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => {
                copy_checked(bytes.as_ptr(), to, bytes.len());
                Ok(())
            }
            Err(_) => Err(Errno::EFAULT),
        }
    }

    fn check_writable(&self, address: u64, length: usize) -> Result<(), Errno> {
        let place = place(address)?;
        let at = std::ptr::with_exposed_provenance_mut::<u8>(place);
        if self.is_checked(place, length) { Ok(()) } else { copy(at, at, length) }
    }

    fn install(&self, fd: OwnedFd, close_on_exec: bool) -> Result<c_int, Errno> {
        if !close_on_exec {
            fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(fd.into_raw_fd())
    }

    fn copy(&self, number: c_int) -> Result<OwnedFd, Errno> {
        let fd = super::borrow(number).ok_or(Errno::EBADF)?;
        fd.try_clone_to_owned().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EBADF)))
    }
}

/// Returns the number of a descriptor, which the program owns from now on.
pub(crate) fn give(fd: OwnedFd) -> c_int {
    fd.into_raw_fd()
}

/// Takes ownership of a descriptor that the program passed with its call.
pub(crate) fn take(fd: c_int) -> OwnedFd {
    // SAFETY: fdopendir(3) received the descriptor, which is one of a node, so it is open; the
    // program no longer uses it.
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
