// SPDX-License-Identifier: Apache-2.0
//! Reports the system call that a seccomp filter stopped, before the process ends.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::os::fd::BorrowedFd;

/// Fields of `siginfo_t` for `SIGSYS` (`_sigsys` in `asm-generic/siginfo.h`). The pointer's
/// alignment causes the same gap before it as in the kernel's union.
#[repr(C)]
struct ForbiddenCall {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: *const c_void,
    number: c_int,
    architecture: c_uint,
}

const _: () = assert!(size_of::<ForbiddenCall>() <= size_of::<libc::siginfo_t>());
const _: () = assert!(align_of::<ForbiddenCall>() <= align_of::<libc::siginfo_t>());

/// Makes the process write the number of a trapped call to standard error before it dies of
/// `SIGSYS`.
///
/// # Errors
/// As sigaction(2).
pub fn report_forbidden_calls() -> io::Result<()> {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::SigAction(report), flags, SigSet::empty());
    // SAFETY: `report` does only what a signal handler may do: it allocates nothing, takes no lock,
    // and calls only write(2) and raise(3).
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    Ok(())
}

extern "C" fn report(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a siginfo_t of its own, valid until the
    // handler returns, and large and aligned enough (asserted above); for SIGSYS the kernel has set
    // the integers that are read. In a SIGSYS that a process sent, the same bytes are other
    // integers, which can be read too.
    let number = unsafe { (*info.cast::<ForbiddenCall>()).number };
    let mut line = Line::new();
    line.push(b"aniond: system call ");
    line.push_number(number.unsigned_abs());
    line.push(b" is not in the seccomp policy; the service ends\n");
    // SAFETY: number 2 is standard error for the whole life of the process; if it was closed, the
    // write fails.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    // A failure cannot be reported.
    let _ = nix::unistd::write(stderr, line.bytes());
    // The default action is restored (SA_RESETHAND), so this ends the process.
    let _ = raise(Signal::SIGSYS);
}

/// A line that is built without allocation. Text that does not fit is dropped.
struct Line {
    text: [u8; 96],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { text: [0; 96], length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.text.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        let digit = u8::try_from(number % 10).unwrap_or_default();
        self.push(&[b'0' + digit]);
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_words_and_numbers_and_no_more_than_fits() {
        let mut line = Line::new();
        line.push(b"call ");
        for number in [0, 41, u32::MAX] {
            line.push_number(number);
            line.push(b" ");
        }
        assert_eq!(line.bytes(), b"call 0 41 4294967295 ");
        line.push(&[b'x'; 200]);
        assert_eq!(line.bytes().len(), 96);
    }
}
