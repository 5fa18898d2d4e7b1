// SPDX-License-Identifier: Apache-2.0
//! Runs the example of two processes that share camera frames.

mod common;

use common::Daemon;
use common::example::{check_that_a_missing_service_is_named, example};

#[test]
fn frames_arrive_intact_and_the_memory_comes_back() {
    let daemon = Daemon::start(&[]);
    let assert = example("camera_pipeline")
        .arg("--socket")
        .arg(daemon.socket())
        .args(["--frames", "6"])
        .assert()
        .success();
    let output = String::from_utf8(assert.get_output().stdout.clone()).expect("text");
    assert!(output.contains("frame 6/6"), "{output}");
    assert!(output.trim_end().ends_with("this user: 0 bytes held"), "{output}");
}

#[test]
fn a_missing_service_is_named() {
    check_that_a_missing_service_is_named("camera_pipeline");
}
