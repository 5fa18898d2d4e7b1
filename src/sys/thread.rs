// SPDX-License-Identifier: Apache-2.0
//! Reads and sets properties of the calling thread and of other threads of this process.

use nix::unistd::{Pid, gettid};
use std::fs;
use std::io;

/// Lowest priority of ordinary threads.
const NICE: libc::c_int = 19;

/// Gives the calling thread the lowest priority, as ION's deferred-free thread has.
///
/// # Errors
/// As setpriority(2); lowering is always permitted.
pub fn lower_priority() -> io::Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory; 0 names the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A thread of this process. Once it has ended, another may get its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadId(Pid);

thread_local! {
    /// Saves a system call of each request. A child of fork does not call this module.
    static OWN: ThreadId = ThreadId(gettid());
}

/// Returns the id of the calling thread.
pub fn id() -> ThreadId {
    OWN.with(|own| *own)
}

/// Returns whether a thread runs or waits for a processor; false while it sleeps in a system call,
/// once it has ended, or if its state cannot be read.
pub fn is_running(thread: ThreadId) -> bool {
    activity(thread).is_some_and(|activity| matches!(activity.state, 'R' | 'D'))
}

/// The activity of a thread, and the processor time that it has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The state in proc_pid_stat(5): `R` runs or waits for a processor, `S` and `D` wait for
    /// something else, `T` and `t` are stopped.
    pub state: char,
    /// Processor time so far, in clock ticks.
    pub ticks: u64,
}

/// Returns the activity of a thread; `None` once it has ended, or if this cannot be read.
pub fn activity(thread: ThreadId) -> Option<Activity> {
    let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", thread.0)).ok()?;
    // The name before these fields may contain blanks and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    // Ten fields lie between the state and the times in user mode and in the kernel.
    let mut times = fields.skip(10).map(|field| field.parse::<u64>().ok());
    Some(Activity { state, ticks: times.next()?? + times.next()?? })
}

/// Returns the kernel function in which a thread waits; `None` if it does not wait, or the kernel
/// does not report it.
pub fn waits_in(thread: ThreadId) -> Option<String> {
    let place = fs::read_to_string(format!("/proc/self/task/{}/wchan", thread.0)).ok()?;
    Some(place).filter(|place| !matches!(place.as_str(), "" | "0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    #[test]
    fn a_thread_runs_until_it_sleeps_or_ends() {
        assert!(is_running(id()));
        let go_on = Arc::new(AtomicBool::new(true));
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let is_wanted = Arc::clone(&go_on);
        let thread = std::thread::spawn(move || {
            tell.send(id()).expect("received");
            while is_wanted.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            // Until the other end is dropped.
            let _ = ended.recv();
        });
        let other = told.recv().expect("it began");
        assert!(is_running(other));
        go_on.store(false, Ordering::Relaxed);
        while is_running(other) {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(end);
        thread.join().expect("no panic");
        // It reports its end a moment before it ends.
        while is_running(other) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The nice value is field 19 of proc_pid_stat(5); the thread's name before it may contain
    /// blanks.
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
