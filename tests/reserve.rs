// SPDX-License-Identifier: Apache-2.0
//! Tests `anionctl reserve` against a real daemon over a socket.

mod common;

use common::anionctl::{Holder, client, json, stderr, text};
use common::{Daemon, eventually};
use nix::sys::signal::Signal;

const MIB: i64 = 1 << 20;

fn reserved(daemon: &Daemon) -> i64 {
    let usage = json(daemon, &["usage"]);
    let rows = usage["usage"].as_array().expect("rows").iter();
    rows.map(|row| row["reserved_bytes"].as_i64().expect("a number")).sum()
}

#[test]
fn a_reservation_lasts_until_its_client_is_interrupted_or_killed() {
    let daemon = Daemon::start(&[]);
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let (holder, report) =
            Holder::of("reserve", &daemon, &["--size", "1M", "--count", "4", "--heap", "system"]);
        assert_eq!((&report["ready"], &report["count"]), (&4.into(), &4.into()));
        assert!(report["ready_us"].is_u64(), "{report}");
        assert_eq!(reserved(&daemon), 4 * MIB);
        text(&daemon, &["alloc", "--size", "1M", "--count", "2", "--heap", "system"]);
        let status = holder.end_with(signal);
        assert_eq!(status.success(), signal == Signal::SIGINT, "{status}");
        eventually("nothing is reserved", || reserved(&daemon) == 0);
    }
}

#[test]
fn without_hold_it_says_what_it_got_and_ends() {
    let daemon = Daemon::start(&[]);
    let report = json(&daemon, &["reserve", "--size", "64K", "--heap", "system"]);
    let keys: Vec<_> = report.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["count", "heap", "ready", "ready_us", "size"]);
    let line = text(&daemon, &["reserve", "--size", "64K", "--count", "2", "--heap", "system"]);
    assert!(line.starts_with("2 of 2 buffers of 64.0 KiB ready in heap system in "), "{line}");
    assert_eq!(reserved(&daemon), 0);
}

#[test]
fn refusals_name_their_code() {
    let daemon = Daemon::start(&[]);
    for (args, code) in [
        (["--size", "4K", "--heap", "nonsense"], "UNKNOWN_HEAP"),
        (["--size", "0", "--heap", "system"], "BAD_REQUEST"),
        (["--size", "1T", "--heap", "system"], "NO_MEMORY"),
    ] {
        let message = stderr(client(&daemon).arg("reserve").args(args).assert().code(1));
        assert!(message.contains(code), "{message}");
    }
}
