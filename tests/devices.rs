// SPDX-License-Identifier: Apache-2.0
//! Tests that users can see the source of a heap, and that the service never falls back silently.

mod common;

use common::Daemon;
use common::anionctl::{json, text};

const HEAPS: &str = "/dts-v1/;
/ { anion { compatible = \"anion,heaps-v1\";
    first { type = \"system\"; heap-id = <3>; device = \"memfd\"; };
    listed { type = \"system\"; heap-id = <2>; device = \"dma-heap:absent-heap\", \"memfd\"; };
    alone { type = \"system\"; heap-id = <1>; device = \"dma-heap:absent-heap\"; };
}; };";

#[test]
fn log_list_and_dump_name_the_devices_that_a_heap_skips() {
    let directory = tempfile::tempdir().expect("a directory");
    let heaps = directory.path().join("heaps.dts");
    std::fs::write(&heaps, HEAPS).expect("written");
    let daemon = Daemon::start(&["--config", heaps.to_str().expect("text")]);
    let list = json(&daemon, &["list"]);
    let field = |row: usize, key: &str| list["heaps"][row][key].as_str().expect("text").to_owned();
    let why = "the kernel has no dma-heap absent-heap";

    assert_eq!((field(0, "passed_over"), field(0, "unavailable_reason")), (String::new(), String::new()));
    assert_eq!((field(1, "backing"), field(1, "unavailable_reason")), ("memfd".into(), String::new()));
    assert!(field(1, "passed_over").starts_with(&format!("dma-heap:absent-heap: {why}")));
    assert_eq!(
        (list["heaps"][2]["available"].as_bool(), field(2, "passed_over")),
        (Some(false), String::new())
    );
    assert!(field(2, "unavailable_reason").starts_with(why), "no other device was named");
    assert_eq!(
        [0, 1, 2].map(|row| field(row, "release_mechanism")),
        ["close-events", "close-events", "reference-counts"]
    );

    let note = format!("\nlisted skips dma-heap:absent-heap: {why}");
    assert!(text(&daemon, &["list"]).contains(&note), "{}", text(&daemon, &["list"]));
    let dump = text(&daemon, &["dump"]);
    assert!(dump.contains(&format!("ion/listed: skipped: dma-heap:absent-heap: {why}")), "{dump}");
    assert!(dump.contains("release mechanism of memfd: inotify close events"), "{dump}");
    let logged = daemon.log();
    let line = format!("heap listed uses memfd; skipped: dma-heap:absent-heap: {why}");
    assert_eq!(logged.matches(&line).count(), 1, "{logged}");
}

/// The built-in system heap is available wherever the tests run, and names the skipped sources.
#[test]
fn auto_serves_and_tells_what_it_passed_over() {
    let daemon = Daemon::start(&[]);
    let list = json(&daemon, &["list"]);
    let system = &list["heaps"][0];
    assert_eq!((system["name"].as_str(), system["available"].as_bool()), (Some("system"), Some(true)));
    let passed_over = system["passed_over"].as_str().expect("text");
    let order = ["dma-heap", "ion", "udmabuf", "memfd"];
    let chosen = system["backing"].as_str().expect("text");
    let before = order.iter().take_while(|word| **word != chosen);
    for word in before {
        assert!(passed_over.contains(&format!("{word}:")), "{word} is missing: {passed_over}");
    }
}
