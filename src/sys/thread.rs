// SPDX-License-Identifier: Apache-2.0
//! The calling thread.

use std::io;

/// Lowest priority of ordinary threads.
const NICE: libc::c_int = 19;

/// Makes the calling thread yield to all others, as ION's deferred-free thread does.
///
/// # Errors
/// As setpriority(2); lowering is always permitted.
pub fn lower_priority() -> io::Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory; 0 names the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value is field 19 of proc_pid_stat(5); the thread's name before it may have blanks.
    #[test]
    fn only_the_calling_thread_gets_the_lowest_priority() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("/proc");
            let (_, after_name) = stat.rsplit_once(") ").expect("a name in parentheses");
            after_name.split(' ').nth(16).expect("field 19").parse::<libc::c_int>().expect("a number")
        };
        let before = nice();
        let lowered = std::thread::spawn(move || lower_priority().map(|()| nice())).join().expect("no panic");
        assert_eq!(lowered.expect("always permitted"), NICE);
        assert_eq!(nice(), before);
    }
}
