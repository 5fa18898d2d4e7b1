// SPDX-License-Identifier: Apache-2.0
//! Tests buffers for images: the planes in the output of `anionctl`, and the examples of
//! docs/images.md.

mod common;

use common::anionctl::{Holder, client, held, json, stderr, text};
use common::{Daemon, eventually};
use nix::sys::signal::Signal;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};
use std::path::Path;

/// Returns the first code block in this language in docs/images.md.
fn block(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let mut events = Parser::new(&page);
    let is_block = |event: &Event<'_>| matches!(event, Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(own))) if &**own == language);
    events.find(is_block).expect("a block");
    match events.next() {
        Some(Event::Text(text)) => text.into_string(),
        other => panic!("no text: {other:?}"),
    }
}

#[test]
fn the_page_shows_what_its_command_prints() {
    let daemon = Daemon::start(&[]);
    let command = block("sh");
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, args) = words.split_first().expect("a command");
    assert_eq!(*program, "anionctl");
    let shown = text(&daemon, args);
    let planes = block("text");
    assert!(shown.starts_with(&planes), "the page has\n{planes}\nbut it prints\n{shown}");
}

#[test]
fn an_image_is_charged_with_what_its_planes_take() {
    let daemon = Daemon::start(&[]);
    let args = ["--format", "nv12", "--width", "1920", "--height", "1080", "--count", "2"];
    let (holder, report) = Holder::start(&daemon, &args);
    let planes = report["image"]["planes"].as_array().expect("planes");
    let bytes: i64 = planes.iter().map(|plane| plane["bytes"].as_i64().expect("a number")).sum();
    assert_eq!(report["image"]["bytes"], bytes);
    // Whole pages of any size.
    let size = report["buffers"][0]["size"].as_i64().expect("a number");
    assert!((bytes..bytes + (64 << 10)).contains(&size), "{size}");
    assert_eq!(held(&daemon), (2 * size, 2));
    holder.end_with(Signal::SIGINT);
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

#[test]
fn rows_are_aligned_as_the_heaps_asked_for_have_it() {
    let daemon = Daemon::with_heaps(
        r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
            plain { type = "system"; heap-id = <3>; device = "memfd"; };
            wide { type = "system"; heap-id = <2>; device = "memfd"; aliases = "broad"; stride-align = <512>; };
            tight { type = "system"; heap-id = <1>; device = "memfd"; stride-align = <4>; };
        }; };"#,
    );
    let image = ["alloc", "--format", "R_8", "--width", "10", "--height", "2"];
    let stride = |more: &[&str]| json(&daemon, &[&image[..], more].concat())["image"]["stride"].clone();
    assert_eq!(stride(&[]), 512, "any heap may serve it");
    assert_eq!(stride(&["--heap", "plain"]), 64);
    assert_eq!(stride(&["--heap", "broad"]), 512);
    assert_eq!(stride(&["--heap", "tight"]), 12);
    assert_eq!(stride(&["--heap-mask", "0xa"]), 64);
    assert_eq!(stride(&["--heap", "wide", "--stride-align", "128"]), 128);
    let heaps = json(&daemon, &["list"]);
    let told = heaps["heaps"].as_array().expect("heaps").iter().map(|heap| heap["stride_align"].clone());
    assert_eq!(told.collect::<Vec<_>>(), [64, 512, 4]);
}

#[test]
fn explain_takes_images_and_bad_ones_are_refused_before_the_service_is_asked() {
    let daemon = Daemon::start(&[]);
    let explained = json(&daemon, &["explain", "--format", "P010", "--width", "640", "--height", "480"]);
    assert_eq!(explained["possible"], true);
    for (args, message) in [
        (&["--format", "YV12", "--width", "6", "--height", "3"][..], "height is 3, but of YV12 it must be"),
        (
            &["--format", "R_8", "--width", "0", "--height", "3"],
            "width is 0, but of R_8 it must be 1 to 32768",
        ),
        (&["--format", "NV12", "--width", "2"], "--height <PIXELS>"),
        (&["--format", "NV13", "--width", "2", "--height", "2"], "invalid value 'NV13'"),
        (&["--size", "4K", "--format", "NV12", "--width", "2", "--height", "2"], "cannot be used with"),
        (&["--size", "4K", "--width", "2", "--height", "2"], "cannot be used with"),
        (&["--width", "2", "--height", "2"], "--format <FORMAT>"),
        (
            &["--format", "NV12", "--width", "2", "--height", "2", "--stride-align", "3"],
            "the alignment of rows is 3, but it must be a power of two from 1 to 4096",
        ),
    ] {
        let refused = client(&daemon).arg("alloc").args(args).assert().code(2);
        let said = stderr(refused);
        assert!(said.contains(message), "{args:?}: {said}");
    }
}
