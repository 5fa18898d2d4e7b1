// SPDX-License-Identifier: Apache-2.0
//! The edge to C: what reads and writes a program's memory, and the one folder of this crate with
//! `unsafe` blocks.
//!
//! The types of arguments are here. Each is a pointer of the program's, and no Rust code makes one:
//! their fields are private to this module, so a value has come through an exported function, whose
//! contract is that of the C library's function of that name.

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

/// A text of the program's, or NULL: NUL-terminated, and unchanged during the call.
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

/// The last argument of a function that takes any number of them. Callers that give none leave
/// there whatever was: it is passed on unseen, or not at all.
pub type Rest = usize;

/// Returns the error of the last call that failed in this thread.
pub(crate) fn errno() -> c_int {
    Errno::last_raw()
}

/// Sets it.
pub(crate) fn set_errno(errno: c_int) {
    Errno::set_raw(errno);
}

/// Returns the program's descriptor; `None` for a negative number. The program keeps it open during
/// the call; where it does not, all that is done with it fails.
pub(crate) fn borrow<'a>(fd: RawFd) -> Option<BorrowedFd<'a>> {
    if fd < 0 {
        return None;
    }
    // SAFETY: it is not -1. What is done with it are system calls, which fail if it is not open.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

thread_local! {
    /// Whether this thread is in code of this library that itself calls functions of these names.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Reads where a symbolic link leads, whose name ends with a NUL. Returns the bytes of the answer;
/// `None` if it is no link, or leads to a longer path.
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

/// Sets whether this thread may be cancelled, and returns what was set.
fn set_cancellation(state: c_int) -> c_int {
    let mut old = 0;
    // SAFETY: it writes one int to the pointer, which refers to this stack.
    unsafe { pthread_setcancelstate(state, &raw mut old) };
    old
}

/// Runs code that calls the C library, during which this library's functions are the C library's
/// own, and the thread is not cancelled. `None` if the thread is in such code already, or if it
/// panics. errno is what it was before.
pub(crate) fn inside<T>(run: impl FnOnce() -> T) -> Option<T> {
    if INSIDE.replace(true) {
        return None;
    }
    let (before, cancellation) = (errno(), set_cancellation(NOT_NOW));
    // A panic leaves nothing half done that is used again: `anion-nodes` is prepared for threads
    // that stop anywhere.
    let result = catch_unwind(AssertUnwindSafe(run)).ok();
    set_cancellation(cancellation);
    set_errno(before);
    INSIDE.set(false);
    result
}

/// Whether Anion serves nodes that the machine has and permits: for tests on machines that have
/// them.
static FORCED: AtomicBool = AtomicBool::new(false);

/// Returns whether the nodes are this library's even where the machine has its own.
pub(crate) fn is_forced() -> bool {
    FORCED.load(Ordering::Relaxed)
}

/// Runs before the program's own code: no function of this library has to look for one of the C
/// library's in a handler of signals.
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
