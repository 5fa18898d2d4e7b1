// SPDX-License-Identifier: Apache-2.0
//! Tests that the example with a display reports what a machine without a display lacks. With a
//! display it runs in a guest: `cargo xtask vm`, step `display`.

mod common;

use common::Daemon;
use common::anionctl::stderr;
use common::example::{check_that_a_missing_service_is_named, complaint, example};

#[test]
fn a_device_that_is_no_display_is_named() {
    let message = complaint("display", &["--card", "/nowhere/card"]);
    assert!(message.starts_with("display: cannot open /nowhere/card: No such file"), "{message}");
    let message = complaint("display", &["--card", "/dev/null"]);
    assert!(message.starts_with("display: /dev/null is no display: it does not support "), "{message}");
}

#[test]
fn numbers_that_cannot_be_are_refused_with_what_can() {
    for (size, reason) in [
        ("640", "WIDTHxHEIGHT, such as 640x480"),
        ("0x480", "the width is a number from 1 to 65535"),
        ("640x-1", "the height is a number"),
        ("640x65536", "the height is a number from 1 to 65535"),
    ] {
        let message = complaint("display", &["--size", size]);
        assert!(message.contains("--size") && message.contains(reason), "{message}");
    }
    let message = complaint("display", &["--frames", "0"]);
    assert!(message.contains("--frames"), "{message}");
}

#[test]
fn a_missing_service_is_named() {
    check_that_a_missing_service_is_named("display");
}

#[test]
fn the_example_with_graphic_buffers_names_what_it_lacks() {
    let daemon = Daemon::start(&["--graphics"]);
    let graphics = format!("unix:{}", daemon.socket().with_file_name("graphics.sock").display());
    let complaint = |endpoint: &str| {
        let arguments = ["--graphics", endpoint, "--mapper", "/nowhere/mapper.so"];
        stderr(example("composer").args(arguments).assert().failure())
    };
    let message = complaint("unix:/nowhere/graphics.sock");
    assert!(message.starts_with("composer: no graphics allocator at /nowhere/graphics.sock"), "{message}");
    let message = complaint(&graphics);
    assert!(message.starts_with("composer: cannot load /nowhere/mapper.so: "), "{message}");
}
