// SPDX-License-Identifier: Apache-2.0
//! The system calls of the service: the errors that are injected, or the reason why none is.

/// Calls with the errors that are injected: those of the call's manual page, and `EINTR` if the
/// call may sleep. The test command injects the first one of each.
pub(crate) const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "EINTR", "ECONNABORTED", "ENFILE", "ENOMEM"]),
    ("clock_nanosleep", &["EINTR"]),
    ("clone", &["EAGAIN", "ENOMEM"]),
    ("clone3", &["EAGAIN", "ENOSYS"]),
    ("connect", &["ECONNREFUSED", "EINTR"]),
    ("fallocate", &["ENOSPC", "EINTR", "ENOMEM", "EIO"]),
    ("fchmod", &["EIO", "EINTR"]),
    ("fcntl", &["EINTR", "ENOMEM", "EMFILE", "EINVAL", "ENOLCK"]),
    ("flock", &["EINTR", "ENOLCK", "EAGAIN"]),
    ("fstatfs", &["EINTR", "ENOSYS", "EIO"]),
    ("ftruncate", &["ENOSPC", "EINTR", "EIO", "EFBIG"]),
    ("getpeername", &["ENOBUFS", "ENOTCONN"]),
    ("getrandom", &["EINTR"]),
    ("getsockopt", &["ENOMEM", "ENOBUFS", "ENOPROTOOPT"]),
    ("inotify_add_watch", &["ENOSPC", "ENOMEM", "EACCES"]),
    ("ioctl", &["EINTR", "EIO", "ENOTTY", "ENOMEM"]),
    ("lseek", &["EINVAL", "ESPIPE"]),
    ("madvise", &["ENOMEM", "EAGAIN", "EINVAL", "EINTR"]),
    ("memfd_create", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("newfstatat", &["ENOMEM", "EIO", "ENOENT"]),
    ("openat", &["EMFILE", "EINTR", "ENFILE", "ENOMEM", "EACCES", "EIO"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("ppoll", &["EINTR", "ENOMEM"]),
    ("pread64", &["EINTR", "EIO"]),
    ("read", &["EINTR", "EIO", "EAGAIN"]),
    ("readlink", &["ENOMEM", "EIO"]),
    ("recvfrom", &["EINTR", "ENOMEM", "ECONNRESET"]),
    ("recvmsg", &["EINTR", "ENOMEM", "ECONNRESET", "EAGAIN"]),
    ("rt_sigtimedwait", &["EINTR"]),
    ("sendmsg", &["ENOBUFS", "EINTR", "ENOMEM", "EPIPE", "ETOOMANYREFS", "EAGAIN"]),
    ("setpriority", &["EACCES", "EPERM"]),
    ("setsockopt", &["ENOMEM", "ENOBUFS"]),
    ("shutdown", &["ENOTCONN", "ENOBUFS"]),
    ("socket", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("statx", &["ENOMEM", "EIO", "ENOENT"]),
    ("unlink", &["EIO", "ENOENT", "EROFS"]),
    ("write", &["EINTR", "ENOSPC", "EIO", "EAGAIN"]),
];

/// Calls that were observed on the host and that these tests do not cause. The service makes them
/// at its start, for the terminal of the log and for the priority of a thread, and for the process
/// that looks up names if it has a filter.
pub(crate) const NOT_REACHED: [&str; 4] = ["ioctl", "ppoll", "recvfrom", "setpriority"];

/// Calls of the thread that binds a removed socket again.
pub(crate) const OF_KEEPER: [&str; 10] = [
    "connect",
    "fchmod",
    "flock",
    "inotify_add_watch",
    "openat",
    "read",
    "readlink",
    "socket",
    "statx",
    "unlink",
];

/// Calls without injected errors, and the reason.
pub(crate) const WITHOUT: &[(&str, &str)] = &[
    ("brk", "it fails if memory for the process's own data is exhausted, which ends every Rust program"),
    ("clock_gettime", "it fails only for wrong arguments"),
    (
        "close",
        "Linux closes the descriptor also if it returns an error; a call that strace makes fail does not",
    ),
    ("exit", "it does not return"),
    ("exit_group", "it does not return"),
    ("futex", "strace would also make calls fail that wake a thread, which cannot fail"),
    ("getpid", "it cannot fail"),
    ("gettid", "it cannot fail"),
    ("getuid", "it cannot fail"),
    ("mmap", "as brk: the C library uses it for the process's own data and for stacks"),
    ("mprotect", "as brk"),
    (
        "munmap",
        "it fails only if it would split a mapping; a call that strace makes fail leaves whole mappings",
    ),
    ("prctl", "naming a thread and its memory fails only for wrong arguments"),
    ("rseq", "the C library calls it once for each thread, and ends a thread if it fails"),
    ("rt_sigprocmask", "it fails only for wrong arguments"),
    ("sched_getaffinity", "it fails only for wrong arguments"),
    ("set_robust_list", "it fails only for wrong arguments"),
    ("sigaltstack", "it fails only for wrong arguments"),
];

/// Returns the calls of the observation, each once, and whether it was seen on the host.
pub(crate) fn observed() -> Vec<(&'static str, bool)> {
    let text = include_str!("../../seccomp/observed-x86_64.txt");
    let mut calls: Vec<(&str, bool)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (form, places) = line.split_once(':').expect("CALL: PLACES");
        let call = form.split_whitespace().next().expect("a call");
        let is_of_host = places.split_whitespace().any(|place| place == "host");
        match calls.last_mut().filter(|(last, _)| *last == call) {
            Some((_, seen)) => *seen |= is_of_host,
            None => calls.push((call, is_of_host)),
        }
    }
    calls
}

#[test]
fn every_observed_call_has_injected_errors_or_a_reason() {
    let listed = || ERRORS.iter().map(|(call, _)| call).chain(WITHOUT.iter().map(|(call, _)| call));
    let observed = observed();
    for (call, _) in &observed {
        let times = listed().filter(|one| *one == call).count();
        assert_eq!(times, 1, "{call} must be in one of the lists");
    }
    let gone: Vec<_> = listed().filter(|one| observed.iter().all(|(call, _)| call != *one)).collect();
    assert!(gone.is_empty(), "the service makes no such calls: {gone:?}");
}
