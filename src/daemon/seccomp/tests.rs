// SPDX-License-Identifier: Apache-2.0
//! Tests which calls the built-in policy stops. Each attempt runs in a separate process, this
//! program again, since a filter cannot be removed.

use super::*;
use crate::sys::references::ReferenceCounts;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::getpid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::{env, thread};

const ON_X86_64: &str = include_str!("../../../seccomp/aniond-x86_64.policy");
const ON_ARM64: &str = include_str!("../../../seccomp/aniond-arm64.policy");

/// Names the attempt that a child process makes.
const ATTEMPT: &str = "ANION_TEST_ATTEMPT";

/// An action under the filter. Its result does not matter: a forbidden call ends the process.
type Attempt = (&'static str, fn());

const FORBIDDEN: [Attempt; 6] = [
    ("a network socket", || drop(TcpStream::connect(("127.0.0.1", 9)))),
    ("a new file", || drop(File::create(env::temp_dir().join("anion-forbidden")))),
    ("a cut file", || drop(File::options().write(true).truncate(true).open("/dev/null"))),
    ("a new directory", || drop(fs::create_dir("/no/such/directory"))),
    ("another socket to listen at", || drop(UnixListener::bind("/no/such/socket"))),
    ("another program", || assert!(nix::unistd::execv(c"/bin/true", &[c"true"]).is_err())),
];

const ALLOWED: [Attempt; 5] = [
    ("a socket to systemd", || drop(UnixDatagram::unbound())),
    ("a file of the kernel", || drop(File::open("/proc/meminfo"))),
    ("a count of references without a free descriptor", || {
        let counts = ReferenceCounts::open().expect("/proc");
        assert!(counts.of_by_slot(io::stdin()).is_err(), "it is no dma-buf");
    }),
    ("a caller's context, as the binder library copies it", || {
        let (mut copy, text) = ([0; 4], *b"abc\0");
        let remote = RemoteIoVec { base: text.as_ptr().addr(), len: text.len() };
        let copied = process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut copy)], &[remote]);
        assert_eq!((copied, copy), (Ok(4), text));
    }),
    ("a thread", || drop(thread::spawn(|| {}).join())),
];

/// Performs the attempt with this name under the filter.
fn make_attempt(name: &str) {
    let all = FORBIDDEN.iter().chain(&ALLOWED);
    let (_, attempt) = all.clone().find(|(known, _)| *known == name).expect("an attempt of ours");
    let filter = Filter::load(&SystemCalls::BuiltIn).expect("sound").expect("a filter");
    filter.enforce().expect("the kernel filters");
    attempt();
    // The rest of the test program may need calls that the service does not need.
    std::process::exit(0);
}

fn outcome_of(name: &str, test: &str) -> Output {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", &format!("daemon::seccomp::tests::{test}"), "--nocapture"])
        .env(ATTEMPT, name)
        .output()
        .expect("it starts")
}

#[test]
fn a_call_outside_the_policy_ends_the_service_and_is_named() {
    if let Ok(name) = env::var(ATTEMPT) {
        return make_attempt(&name);
    }
    for (name, _) in FORBIDDEN {
        let outcome = outcome_of(name, "a_call_outside_the_policy_ends_the_service_and_is_named");
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status.signal(), Some(libc::SIGSYS), "{name}: {} {said}", outcome.status);
        assert!(said.contains(" is not in the seccomp policy; the service ends"), "{name}: {said}");
    }
}

#[test]
fn calls_that_the_service_needs_are_allowed() {
    if let Ok(name) = env::var(ATTEMPT) {
        return make_attempt(&name);
    }
    for (name, _) in ALLOWED {
        let outcome = outcome_of(name, "calls_that_the_service_needs_are_allowed");
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "{name}: {} {said}", outcome.status);
    }
}

#[test]
fn the_policies_of_all_architectures_are_understood() {
    for (architecture, text) in [("x86_64", ON_X86_64), ("aarch64", ON_ARM64)] {
        let policy = Policy::parse(text).expect("sound");
        assert!(policy.allowed.len() > 50, "{}", policy.allowed.len());
        assert_eq!(policy.refused.get("clone3"), Some(&libc::ENOSYS));
        for never in ["bind", "execve", "fork", "listen", "mkdir", "mount", "open", "ptrace", "vfork"] {
            assert!(!policy.allowed.contains_key(never), "{never}");
        }
        kernel::compile_for(&policy, architecture).expect("the architecture has all of these calls");
    }
}

/// Returns the rules of a policy by the names of their calls.
fn rules_of(text: &str) -> BTreeMap<String, String> {
    let rules = policy::logical_lines(text).into_iter();
    rules.filter_map(|(_, rule)| Some((rule.split_once(':')?.0.to_owned(), rule))).collect()
}

/// Returns whether 64-bit ARM has the call. The compiler has the kernel's tables of the system
/// calls of the architectures, and refuses a call that is not in them.
fn is_on_arm64(call: &str) -> bool {
    let policy = Policy::parse(&format!("{call}: 1")).expect("sound");
    kernel::compile_for(&policy, "aarch64").is_ok()
}

/// Names such as `O_DIRECTORY` have values of each architecture. Of the values that are written as
/// numbers, only `O_LARGEFILE` differs (`arch/arm64/include/uapi/asm/fcntl.h`): the ioctls have the
/// generic encoding on both.
#[test]
fn the_policy_of_arm64_is_that_of_x86_64_without_the_calls_that_it_never_had() {
    let mut expected = rules_of(ON_X86_64);
    expected.retain(|call, _| is_on_arm64(call));
    let openat = expected.get_mut("openat").expect("files are opened");
    assert!(openat.ends_with("|0x8000"), "{openat}");
    *openat = openat.replace("|0x8000", "|0x20000");
    assert_eq!(rules_of(ON_ARM64), expected);
    assert!(!is_on_arm64("poll") && is_on_arm64("ppoll"), "the table is that of arm64");
}

#[test]
fn the_option_is_two_words_or_a_file() {
    assert_eq!(SystemCalls::parse("none"), Ok(SystemCalls::Any));
    assert_eq!(SystemCalls::parse("built-in"), Ok(SystemCalls::BuiltIn));
    assert_eq!(SystemCalls::parse("./none"), Ok(SystemCalls::File("./none".into())));
}

#[test]
fn a_file_that_is_not_there_or_not_understood_stops_the_start() {
    let absent = Filter::load(&SystemCalls::File("/no/such.policy".into())).expect_err("absent");
    assert!(format!("{absent:#}").contains("/no/such.policy"), "{absent:#}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "read: 1\nmake_coffee: 1\n").expect("written");
    let unknown = Filter::load(&SystemCalls::File(file.path().into())).expect_err("no such call");
    assert!(format!("{unknown:#}").contains("make_coffee"), "{unknown:#}");
}
