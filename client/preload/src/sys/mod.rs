// SPDX-License-Identifier: Apache-2.0
//! The boundary to C: accesses the program's memory. Only this folder of the crate has `unsafe`
//! blocks.
//!
//! It defines the types of arguments. Each is a pointer of the program, and no Rust code creates
//! one: their fields are private to this module, so a value has come through an exported function,
//! whose contract is that of the C library's function of that name.

#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

pub mod list;
pub mod memory;
pub mod real;
pub mod status;

use nix::errno::Errno;
use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A text of the program, or NULL: NUL-terminated, and unchanged during the call.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text<'a>(*const c_char, PhantomData<&'a CStr>);

impl<'a> Text<'a> {
    /// The directory of devices.
    pub(crate) const DEV: Text<'static> = Text(c"/dev".as_ptr(), PhantomData);

    /// Returns its bytes; none for NULL.
    pub(crate) fn bytes(self) -> &'a [u8] {
        if self.0.is_null() {
            return b"";
        }
        // SAFETY: values come from C alone (module) or are a constant; a text is NUL-terminated,
        // lives for the whole call and is not changed during it, and no exported function keeps it.
        unsafe { CStr::from_ptr(self.0) }.to_bytes()
    }

    /// Returns it as a path.
    pub(crate) fn path(self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }
}

/// The last argument of a variadic function. If the caller passes none, it is an arbitrary value,
/// which is passed on unread or ignored.
pub type Rest = usize;

/// Returns the errno of this thread.
pub(crate) fn errno() -> c_int {
    Errno::last_raw()
}

/// Sets the errno of this thread.
pub(crate) fn set_errno(errno: c_int) {
    Errno::set_raw(errno);
}

/// Returns the program's descriptor; `None` for a negative number. The program keeps it open during
/// the call; otherwise all operations on it fail.
pub(crate) fn borrow<'a>(fd: RawFd) -> Option<BorrowedFd<'a>> {
    if fd < 0 {
        return None;
    }
    // SAFETY: it is not -1. It is only passed to system calls, which fail if it is not open.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

thread_local! {
    /// Whether this thread runs code of this library that calls the C library.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Reads the target of a symbolic link, whose name ends with a NUL. Returns the bytes of the
/// target; `None` if it is no link, or the target is longer than `place`.
pub(crate) fn read_link(link: &[u8], place: &mut [u8]) -> Option<usize> {
    let link = CStr::from_bytes_until_nul(link).ok()?;
    // SAFETY: the name is NUL-terminated, and the kernel writes at most as many bytes as `place`
    // has; both are borrowed for the call.
    let length = unsafe { libc::readlink(link.as_ptr(), place.as_mut_ptr().cast(), place.len()) };
    usize::try_from(length).ok().filter(|length| *length < place.len())
}

unsafe extern "C" {
    /// Sets whether the thread can be cancelled: pthread_setcancelstate(3).
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE` of glibc and musl.
const NOT_NOW: c_int = 1;

/// Sets whether this thread may be cancelled, and returns the previous state.
fn set_cancellation(state: c_int) -> c_int {
    let mut old = 0;
    // SAFETY: it writes one int to the pointer, which refers to this stack.
    unsafe { pthread_setcancelstate(state, &raw mut old) };
    old
}

/// Runs code in which calls of the C library are not served here, and the thread is not cancelled.
/// `None` if the thread runs such code already, or if it panics. errno is unchanged.
pub(crate) fn inside<T>(run: impl FnOnce() -> T) -> Option<T> {
    if INSIDE.replace(true) {
        return None;
    }
    let (before, cancellation) = (errno(), set_cancellation(NOT_NOW));
    // A panic leaves no state incomplete that is used again: `anion-nodes` is prepared for threads
    // that stop anywhere.
    let result = catch_unwind(AssertUnwindSafe(run)).ok();
    set_cancellation(cancellation);
    set_errno(before);
    INSIDE.set(false);
    result
}

/// Whether Anion also serves nodes that the machine has and permits, for tests on such machines.
static FORCED: AtomicBool = AtomicBool::new(false);

/// Returns whether this library serves the nodes also on machines that have them.
pub(crate) fn is_forced() -> bool {
    FORCED.load(Ordering::Relaxed)
}

/// Runs before the program's own code, so that no function of this library has to find one of the C
/// library's in a signal handler.
extern "C" fn prepare() {
    real::find_all();
    // SAFETY: the program has one thread and none of its code has run, so the environment does not
    // change; the name is NUL-terminated.
    let forced = unsafe { libc::getenv(c"ANION_PRELOAD_FORCE".as_ptr()) };
    FORCED.store(!forced.is_null(), Ordering::Relaxed);
    crate::served::prepare();
}

#[used]
#[unsafe(link_section = ".init_array")]
static PREPARE: extern "C" fn() = prepare;
