// SPDX-License-Identifier: Apache-2.0
//! Tests that descriptors are owned once. There is only one test, because a process can do this
//! once.

mod sys;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use rustutils::inherited_fd::{Error, take_fd_ownership};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// Opens a file with this text as a descriptor that has no owner and that child programs inherit.
fn inheritable(text: &str) -> RawFd {
    let mut file = tempfile::tempfile().expect("made");
    file.write_all(text.as_bytes()).expect("written");
    file.rewind().expect("rewound");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("marked");
    file.into_raw_fd()
}

fn closes_on_exec(number: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).expect("open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
    i32::from_str_radix(flags.trim(), 8).expect("octal") & nix::libc::O_CLOEXEC != 0
}

#[test]
fn a_descriptor_that_was_inherited_is_owned_once() {
    let [taken, left] = ["taken", "left"].map(inheritable);
    assert_eq!(take_fd_ownership(taken).expect_err("too early"), Error::NotInitialized);
    assert!(!closes_on_exec(taken) && !closes_on_exec(left));
    sys::init_once().expect("taken over");
    assert!(closes_on_exec(taken) && closes_on_exec(left));
    sys::init_once().expect_err("a second time");

    let owned = take_fd_ownership(taken).expect("inherited");
    assert_eq!(owned.as_raw_fd(), taken);
    let mut text = String::new();
    fs::File::from(owned).read_to_string(&mut text).expect("read");
    assert_eq!(text, "taken");
    assert_eq!(take_fd_ownership(taken).expect_err("twice"), Error::OwnershipTaken(taken));

    let later = tempfile::tempfile().expect("made");
    for number in [0, 1, 2, RawFd::MAX, -1] {
        let error = take_fd_ownership(number).expect_err("not inherited");
        assert_eq!(error, Error::FileDescriptorNotInherited(number));
        assert!(error.to_string().contains(&number.to_string()), "{error}");
    }
    // The file that was read is closed, so the new file may have its number: that is not returned.
    take_fd_ownership(later.as_raw_fd()).expect_err("opened later");
    assert!(closes_on_exec(left), "what was not taken is still open");
}
