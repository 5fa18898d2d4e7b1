// SPDX-License-Identifier: Apache-2.0
//! The example of a camera that fills buffers says what it lacks on a machine without one. With the
//! camera, it runs in guests: `cargo xtask vm`, step `pictures`.

mod common;

use common::Daemon;
use std::path::Path;

/// Returns the example beside the programs under test, where cargo puts it.
fn v4l2_capture() -> assert_cmd::Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_anionctl")).parent().expect("a directory");
    let example = programs.join("examples/v4l2_capture");
    assert!(example.exists(), "{} is missing: run cargo build --examples", example.display());
    let mut command = assert_cmd::Command::new(example);
    command.timeout(common::DEADLINE);
    command
}

/// Returns what it complains of.
fn complaint(arguments: &[&str]) -> String {
    let daemon = Daemon::start(&[]);
    let assert = v4l2_capture().arg("--socket").arg(daemon.socket()).args(arguments).assert().failure();
    String::from_utf8(assert.get_output().stderr.clone()).expect("text")
}

#[test]
fn a_device_that_is_no_camera_is_named() {
    let message = complaint(&["--device", "/nowhere/video"]);
    assert!(message.starts_with("v4l2_capture: cannot open /nowhere/video: No such file"), "{message}");
    let message = complaint(&["--device", "/dev/null"]);
    assert!(message.starts_with("v4l2_capture: /dev/null is no V4L2 device"), "{message}");
}

#[test]
fn a_card_that_is_not_there_is_named() {
    let message = complaint(&["--card", "/nowhere/card"]);
    assert!(message.starts_with("v4l2_capture: cannot open /nowhere/card"), "{message}");
}

#[test]
fn numbers_that_cannot_be_are_refused_with_what_can() {
    for (size, reason) in [
        ("640", "WIDTHxHEIGHT, such as 640x480"),
        ("641x480", "641 is no multiple of 8"),
        ("0x480", "the width"),
        ("640x-1", "the height"),
    ] {
        let message = complaint(&["--size", size]);
        assert!(message.contains("--size") && message.contains(reason), "{message}");
    }
    let message = complaint(&["--frames", "0"]);
    assert!(message.contains("--frames"), "{message}");
}

#[test]
fn a_missing_service_is_named() {
    let assert = v4l2_capture().args(["--socket", "/nowhere/socket"]).assert().failure();
    let message = String::from_utf8(assert.get_output().stderr.clone()).expect("text");
    assert!(message.contains("unix:/nowhere/socket"), "{message}");
}
