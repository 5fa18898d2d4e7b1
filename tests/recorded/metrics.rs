// SPDX-License-Identifier: Apache-2.0
//! Tests metrics with a strict parser of OpenMetrics 1.0's text form.

use crate::common::anionctl::{ANIONCTL, Holder, client, text};
use crate::common::{CLIENT_HEAPS, Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

/// Values by name and labels, in the document's notation.
type Samples = BTreeMap<String, f64>;

/// The present family.
struct Family {
    name: String,
    kind: String,
}

/// Parses a document.
///
/// # Panics
/// If the document violates the format.
fn parse(document: &str) -> Samples {
    let body = document.strip_suffix("# EOF\n").expect("the end is marked, and nothing follows it");
    let (mut samples, mut family, mut seen) = (Samples::new(), None::<Family>, Vec::new());
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, kind] => {
                assert!(!seen.contains(&(*name).to_owned()), "{name} is not in one piece");
                assert!(["gauge", "counter", "histogram", "stateset"].contains(kind), "{line}");
                assert!(!name.ends_with("_total"), "{line}");
                seen.push((*name).to_owned());
                family = Some(Family { name: (*name).to_owned(), kind: (*kind).to_owned() });
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(family.as_ref().map(|family| &*family.name), Some(*name), "{line}");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            }
            ["#", "HELP", name, help] => {
                assert_eq!(family.as_ref().map(|family| &*family.name), Some(*name), "{line}");
                assert!(!help.is_empty(), "{line}");
            }
            ["#", ..] => panic!("no comment has this form: {line}"),
            _ => {
                let (key, value) = sample(line, family.as_ref().expect("a family comes first"));
                assert!(samples.insert(key, value).is_none(), "twice: {line}");
            }
        }
    }
    samples
}

/// Returns the name and labels, and the value.
fn sample(line: &str, family: &Family) -> (String, f64) {
    let (key, value) = line.rsplit_once(' ').expect("a value");
    let name = key.split('{').next().expect("a name");
    let suffix = name.strip_prefix(&*family.name).unwrap_or_else(|| panic!("not of {}: {line}", family.name));
    let expected: &[&str] = match &*family.kind {
        "counter" => &["_total"],
        // A count without a sum is not permitted.
        "histogram" => &["_bucket"],
        _ => &[""],
    };
    assert!(expected.contains(&suffix), "{line}");
    if let Some(labels) = key.strip_prefix(name).filter(|labels| !labels.is_empty()) {
        let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).expect("braces");
        for label in labels.split("\",") {
            let (label, value) = label.split_once("=\"").expect("a quoted value");
            assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
            assert!(!value.trim_end_matches('"').contains('"'), "{line}");
        }
    }
    let value: f64 = value.parse().expect("a number");
    assert!(value >= 0.0, "{line}");
    (key.to_owned(), value)
}

#[test]
fn every_number_is_where_a_strict_reader_expects_it() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let (_held, _) = Holder::start(&daemon, &["--size", "64K", "--count", "2", "--heap", "camera"]);
    client(&daemon).args(["alloc", "--size", "128M", "--heap", "camera"]).assert().code(1);
    let samples = parse(&text(&daemon, &["metrics"]));
    let camera = "{heap=\"camera\",id=\"20\"}";
    let of = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:?}"));
    assert_eq!(of(&format!("anion_heap_live_bytes{camera}")), f64::from(2 << 16));
    assert_eq!(of(&format!("anion_heap_allocations_total{camera}")), 2.0);
    assert_eq!(of(&format!("anion_heap_capacity_bytes{camera}")), f64::from(64 << 20));
    let refused = |cause| {
        of(&format!("anion_heap_refused_requests_total{{heap=\"camera\",id=\"20\",cause=\"{cause}\"}}"))
    };
    let causes = ["fragmented", "no_memory", "quota", "not_permitted", "unsupported", "backend"];
    assert_eq!(causes.map(refused).iter().sum::<f64>(), 1.0);
    let uid = nix::unistd::geteuid();
    let is_own = |key: &&String| key.starts_with(&format!("anion_client_held_bytes{{uid=\"{uid}\""));
    assert_eq!(samples[samples.keys().find(is_own).expect("the caller")], f64::from(2 << 16));
    // A bucket counts all calls up to its bound.
    let bucket = "anion_heap_allocate_duration_seconds_bucket{heap=\"camera\"";
    let mut buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|(key, _)| key.starts_with(bucket))
        .map(|(key, value)| {
            let bound = key.split("le=\"").nth(1).expect("a bound").trim_end_matches("\"}");
            (if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") }, *value)
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
    assert_eq!(buckets.last().map(|(bound, count)| (bound.is_infinite(), *count)), Some((true, 1.0)));
    let level = |level| of(&format!("anion_memory_pressure{{anion_memory_pressure=\"{level}\"}}"));
    assert_eq!(["none", "moderate", "critical"].map(level).iter().sum::<f64>(), 1.0);
}

/// Returns the answer to a request over the socket, if there is one.
fn scrape(path: &std::path::Path) -> Option<String> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_socket_serves_them_also_after_a_restart_of_the_service() {
    let mut daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let path = daemon.directory().join("metrics.sock");
    let mut server = Command::new(ANIONCTL)
        .arg("--socket")
        .arg(daemon.socket())
        .args(["metrics", "--listen"])
        .arg(&path)
        .spawn()
        .expect("anionctl starts");
    let mut answer = String::new();
    let mut answers = |wanted: &str| {
        answer = scrape(&path).unwrap_or_default();
        answer.starts_with(wanted)
    };
    eventually("it is served", || answers("HTTP/1.0 200 OK\r\n"));
    let body = scrape(&path).expect("an answer");
    let (head, body) = body.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert!(head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(!parse(body).is_empty());
    daemon.kill();
    eventually("it says that the service is away", || answers("HTTP/1.0 503 "));
    daemon.start_again();
    eventually("it is served again", || answers("HTTP/1.0 200 OK\r\n"));
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    assert!(server.wait().expect("a child").success());
    assert!(!path.exists(), "the socket is removed");
}
