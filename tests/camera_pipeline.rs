// SPDX-License-Identifier: Apache-2.0
//! The example of two processes that share camera frames does what it says.

mod common;

use common::Daemon;
use std::path::Path;

/// Returns the example beside the programs under test, where cargo puts it.
fn camera_pipeline() -> assert_cmd::Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_anionctl")).parent().expect("a directory");
    let example = programs.join("examples/camera_pipeline");
    assert!(example.exists(), "{} is missing: run cargo build --examples", example.display());
    let mut command = assert_cmd::Command::new(example);
    command.timeout(common::DEADLINE);
    command
}

#[test]
fn frames_arrive_intact_and_the_memory_comes_back() {
    let daemon = Daemon::start(&[]);
    let assert =
        camera_pipeline().arg("--socket").arg(daemon.socket()).args(["--frames", "6"]).assert().success();
    let output = String::from_utf8(assert.get_output().stdout.clone()).expect("text");
    assert!(output.contains("frame 6/6"), "{output}");
    assert!(output.trim_end().ends_with("this user: 0 bytes held"), "{output}");
}

#[test]
fn a_missing_service_is_named() {
    let assert = camera_pipeline().args(["--socket", "/nowhere/socket"]).assert().failure();
    let message = String::from_utf8(assert.get_output().stderr.clone()).expect("text");
    assert!(message.contains("unix:/nowhere/socket"), "{message}");
}
