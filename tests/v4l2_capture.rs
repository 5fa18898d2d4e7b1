// SPDX-License-Identifier: Apache-2.0
//! Tests that the example with a camera reports what a machine without a camera lacks. With a
//! camera it runs in guests: `cargo xtask vm`, step `pictures`.

mod common;

use common::example::{check_that_a_missing_service_is_named, complaint};

#[test]
fn a_device_that_is_no_camera_is_named() {
    let message = complaint("v4l2_capture", &["--device", "/nowhere/video"]);
    assert!(message.starts_with("v4l2_capture: cannot open /nowhere/video: No such file"), "{message}");
    let message = complaint("v4l2_capture", &["--device", "/dev/null"]);
    assert!(message.starts_with("v4l2_capture: /dev/null is no V4L2 device"), "{message}");
}

#[test]
fn a_card_that_is_not_there_is_named() {
    let message = complaint("v4l2_capture", &["--card", "/nowhere/card"]);
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
        let message = complaint("v4l2_capture", &["--size", size]);
        assert!(message.contains("--size") && message.contains(reason), "{message}");
    }
    let message = complaint("v4l2_capture", &["--frames", "0"]);
    assert!(message.contains("--frames"), "{message}");
}

#[test]
fn a_missing_service_is_named() {
    check_that_a_missing_service_is_named("v4l2_capture");
}
