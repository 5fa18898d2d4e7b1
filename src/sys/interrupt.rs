// SPDX-License-Identifier: Apache-2.0
//! Interrupts a blocked system call of another thread.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// The interrupting signal. It is ignored by default, so it has no effect before `prepare`.
const SIGNAL: libc::c_int = libc::SIGURG;

extern "C" fn nothing(_signal: libc::c_int) {}

/// Makes [`interrupt`] end system calls of this process's threads. One call is enough; further
/// calls do no harm.
///
/// # Errors
/// As sigaction(2).
pub fn prepare() -> io::Result<()> {
    // SAFETY: `sigaction` is a plain structure of numbers, sets of signals and an address, for
    // which all zero bytes are a valid value: no flags, so interrupted calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as libc::sighandler_t;
    // SAFETY: `action` is initialised and outlives the call. Its handler has the signature that a
    // handler without SA_SIGINFO has, and does nothing, so it may run at any moment. No other part
    // of the program uses the signal.
    let result = unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends a thread's blocked system call with EINTR, if the call can be interrupted: a write to a
/// terminal can, a write to a file system that does not answer cannot. A call that begins after
/// this is not affected.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the thread was neither joined nor detached, since its handle exists, so its identity
    // is valid even if it has ended; then nothing is sent. The handler is that of `prepare`, or the
    // signal is ignored.
    let _ = unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn a_write_that_waits_is_ended() {
        prepare().expect("prepared");
        let (_reader, mut writer) = io::pipe().expect("a pipe");
        let (ended, error) = channel();
        let thread = std::thread::spawn(move || {
            let error = loop {
                if let Err(error) = writer.write(&[0; 4096]) {
                    break error;
                }
            };
            ended.send(error.kind()).expect("received");
        });
        let kind = loop {
            interrupt(&thread);
            if let Ok(kind) = error.recv_timeout(Duration::from_millis(1)) {
                break kind;
            }
        };
        assert_eq!(kind, io::ErrorKind::Interrupted);
        thread.join().expect("no panic");
    }
}
