// SPDX-License-Identifier: Apache-2.0
//! The example of a display that shows buffers says what it lacks on a machine without one. With
//! the display, it runs in a guest: `cargo xtask vm`, step `display`.

mod common;

use common::Daemon;
use std::path::Path;

/// Returns the example beside the programs under test, where cargo puts it.
fn display() -> assert_cmd::Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_anionctl")).parent().expect("a directory");
    let example = programs.join("examples/display");
    assert!(example.exists(), "{} is missing: run cargo build --examples", example.display());
    let mut command = assert_cmd::Command::new(example);
    command.timeout(common::DEADLINE);
    command
}

/// Returns what it complains of.
fn complaint(arguments: &[&str]) -> String {
    let daemon = Daemon::start(&[]);
    let assert = display().arg("--socket").arg(daemon.socket()).args(arguments).assert().failure();
    String::from_utf8(assert.get_output().stderr.clone()).expect("text")
}

#[test]
fn a_device_that_is_no_display_is_named() {
    let message = complaint(&["--card", "/nowhere/card"]);
    assert!(message.starts_with("display: cannot open /nowhere/card: No such file"), "{message}");
    let message = complaint(&["--card", "/dev/null"]);
    assert!(message.starts_with("display: /dev/null is no display: it refuses "), "{message}");
}

#[test]
fn numbers_that_cannot_be_are_refused_with_what_can() {
    for (size, reason) in [
        ("640", "WIDTHxHEIGHT, such as 640x480"),
        ("0x480", "the width is a number from 1 to 65535"),
        ("640x-1", "the height is a number"),
        ("640x65536", "the height is a number from 1 to 65535"),
    ] {
        let message = complaint(&["--size", size]);
        assert!(message.contains("--size") && message.contains(reason), "{message}");
    }
    let message = complaint(&["--frames", "0"]);
    assert!(message.contains("--frames"), "{message}");
}

#[test]
fn a_missing_service_is_named() {
    let assert = display().args(["--socket", "/nowhere/socket"]).assert().failure();
    let message = String::from_utf8(assert.get_output().stderr.clone()).expect("text");
    assert!(message.contains("unix:/nowhere/socket"), "{message}");
}
