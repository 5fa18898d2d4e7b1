// SPDX-License-Identifier: Apache-2.0
//! Tests `anionctl holders` and `usage --processes`, with data of the kernel and the service.

mod common;

use common::anionctl::{Holder, anionctl, client, json, stdout, text};
use common::terminal::start_on_terminal;
use common::{CLIENT_HEAPS, Daemon, eventually};
use serde_json::Value;
use std::io::Read;
use std::thread;

fn buffer<'a>(report: &'a Value, id: &Value) -> &'a Value {
    let buffers = report["buffers"].as_array().expect("rows");
    buffers.iter().find(|buffer| &buffer["id"] == id).unwrap_or_else(|| panic!("{id} in {report}"))
}

fn holder(buffer: &Value, pid: u32) -> Option<&Value> {
    buffer["holders"].as_array().expect("rows").iter().find(|holder| holder["pid"] == pid)
}

#[test]
fn a_buffer_is_shown_with_its_holder_and_with_the_service() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let (held, report) = Holder::start(&daemon, &["--size", "64K", "--heap", "camera", "--name", "preview"]);
    let (id, inode) = (&report["buffers"][0]["id"], &report["buffers"][0]["inode"]);
    let shown = json(&daemon, &["holders"]);
    let row = buffer(&shown, id);
    assert_eq!(&row["inode"], inode);
    assert_eq!((&row["name"], &row["heap"]), (&"preview".into(), &"camera".into()));
    assert_eq!(row["size"], 64 << 10);
    let client = holder(row, held.0.id()).expect("the client");
    assert_eq!((&client["command"], &client["descriptors"]), (&"anionctl".into(), &1.into()));
    let service = u32::try_from(daemon.pid().as_raw()).expect("positive");
    assert_eq!(holder(row, service).expect("the service watches it")["descriptors"], 1);
    // With either number, as a table and as CSV.
    for number in [id, inode] {
        let one = json(&daemon, &["holders", &number.to_string()]);
        assert_eq!(one["buffers"].as_array().expect("rows").len(), 1, "{one}");
    }
    let line = |text: &str| text.lines().any(|line| line.contains("preview") && line.contains("anionctl"));
    assert!(line(&text(&daemon, &["holders"])));
    let csv = text(&daemon, &["holders", "--csv", &id.to_string()]);
    assert!(csv.starts_with("inode,kind,id,heap,size,name,") && line(&csv), "{csv}");
    // Its buffers count for the process that allocated them.
    let usage = json(&daemon, &["usage", "--processes"]);
    let mut processes = usage["processes"].as_array().expect("rows").iter();
    let own = processes.find(|row| row["pid"] == held.0.id()).expect("a line");
    assert_eq!((&own["command"], &own["buffers"]), (&"anionctl".into(), &1.into()));
    assert_eq!(own["bytes"], 64 << 10);
    drop(held);
    eventually("nobody has it", || {
        let shown = json(&daemon, &["holders"]);
        !shown["buffers"].as_array().expect("rows").iter().any(|buffer| &buffer["id"] == id)
    });
}

#[test]
fn without_a_service_the_kernel_s_names_tell_heap_and_label() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let (held, report) =
        Holder::start(&daemon, &["--size", "64K", "--heap", "system", "--name", "front view"]);
    let inode = report["buffers"][0]["inode"].to_string();
    let mut alone = anionctl();
    alone.args(["--json", "--socket", "/nowhere/socket", "holders", &inode]);
    let shown: Value = serde_json::from_str(&stdout(alone.assert().success())).expect("JSON");
    let row = &shown["buffers"][0];
    assert_eq!((&shown["service"], &row["name"]), (&false.into(), &"anion:system:front view".into()));
    assert_eq!((&row["kind"], &row["size"]), (&"memfd".into(), &(64 << 10).into()));
    assert!(holder(row, held.0.id()).is_some(), "{row}");
    let links = std::fs::read_dir(format!("/proc/{}/fd", held.0.id())).expect("its descriptors");
    let names: Vec<_> = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok()).collect();
    let is_named =
        |name: &std::path::PathBuf| name.to_string_lossy().contains("/memfd:anion:system:front view");
    assert!(names.iter().any(is_named), "{names:?}");
}

#[test]
fn a_number_that_no_buffer_has_is_an_error_that_names_it() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let assert = client(&daemon).args(["holders", "18446744073709551615"]).assert().code(5);
    let error = String::from_utf8(assert.get_output().stderr.clone()).expect("text");
    assert!(error.contains("18446744073709551615"), "{error}");
}

/// Returns the output of a command on a terminal of 80 columns.
fn on_terminal(daemon: &Daemon, args: &[&str]) -> String {
    let (mut child, mut master) = start_on_terminal(daemon, (24, 80), args);
    let reading = thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(taken @ 1..) = master.read(&mut piece) {
            text.extend_from_slice(&piece[..taken]);
        }
        text
    });
    child.wait().expect("a child");
    String::from_utf8(reading.join().expect("the reader")).expect("text")
}

/// Returns the columns of a line, without escape sequences.
fn columns(line: &str) -> usize {
    let mut rest = line.trim_end();
    let mut count = 0;
    while let Some(at) = rest.find('\x1b') {
        count += rest[..at].chars().count();
        rest = rest[at..].split_once('m').map_or("", |(_, rest)| rest);
    }
    count + rest.chars().count()
}

#[test]
fn tables_fit_a_terminal_of_80_columns_and_are_whole_in_a_pipe() {
    let daemon = Daemon::start(&[]);
    let (_held, _) = Holder::start(&daemon, &["--size", "64K", "--count", "2"]);
    for args in [
        &["list"][..],
        &["stats"],
        &["usage"],
        &["usage", "--processes"],
        &["holders"],
        &["explain", "--size", "64G"],
        &["alloc", "--size", "64K", "--count", "2"],
    ] {
        let shown = on_terminal(&daemon, args);
        let widest = shown.lines().map(columns).max();
        assert!(widest.is_some_and(|widest| (1..=80).contains(&widest)), "{args:?}: {widest:?}\n{shown}");
    }
    let (shown, whole) = (on_terminal(&daemon, &["stats"]), text(&daemon, &["stats"]));
    assert!(shown.contains("(no room for"), "{shown}");
    assert!(whole.lines().all(|line| !line.contains("(no room for")), "{whole}");
    assert!(whole.lines().any(|line| line.len() > 80), "{whole}");
}
