// SPDX-License-Identifier: Apache-2.0
//! Tests traces, decoded by an independent library with the fields of Perfetto's
//! trace_packet.proto.

use crate::common::anionctl::{Holder, client, json, stderr};
use crate::common::{CLIENT_HEAPS, Daemon, eventually};
use prost::Message;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

#[derive(Message)]
struct TracePacket {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
}

#[derive(Message)]
struct CounterDescriptor {
    /// 3 is `UNIT_SIZE_BYTES`.
    #[prost(int32, optional, tag = "3")]
    unit: Option<i32>,
}

#[derive(Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    /// 1 begins a slice, 2 ends it, 3 is an instant, 4 is a counter value.
    #[prost(int32, optional, tag = "9")]
    kind: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    counter_value: Option<i64>,
}

#[derive(Message)]
struct DebugAnnotation {
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

impl TrackEvent {
    fn number(&self, name: &str) -> Option<u64> {
        self.debug_annotations.iter().find(|own| own.name() == name)?.uint_value
    }
}

fn decode(file: &Path) -> Trace {
    Trace::decode(&*std::fs::read(file).expect("the file")).expect("a trace")
}

#[test]
fn a_trace_has_slices_of_calls_counters_of_heaps_and_instants() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let file = daemon.directory().join("trace");
    let name = file.to_str().expect("text");
    let (held, _) = Holder::start(&daemon, &["--size", "64K", "--count", "2", "--heap", "camera"]);
    let pid = u64::from(held.0.id());
    client(&daemon).args(["alloc", "--size", "128M", "--heap", "camera"]).assert().code(1);
    drop(held);
    let live = |stats: &serde_json::Value| {
        stats["stats"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["live_bytes"].as_i64().expect("bytes"))
            .sum::<i64>()
    };
    eventually("it is released", || live(&json(&daemon, &["stats"])) == 0);
    let report = json(&daemon, &["trace", "-o", name, "--past", "--seconds", "0"]);
    assert!(report["events"].as_u64() >= Some(4) && report["lost"] == 0, "{report}");
    let trace = decode(&file);
    let tracks: BTreeMap<u64, &TrackDescriptor> = trace
        .packet
        .iter()
        .filter_map(|packet| packet.track_descriptor.as_ref())
        .map(|track| (track.uuid(), track))
        .collect();
    assert!(trace.packet.iter().all(|packet| packet.trusted_packet_sequence_id() == 1));
    let events: Vec<_> = trace
        .packet
        .iter()
        .filter_map(|packet| Some((packet.timestamp(), packet.track_event.as_ref()?)))
        .collect();
    let track = |event: &TrackEvent| *tracks.get(&event.track_uuid()).expect("a track that is described");
    // The slice of the call, and its end on the same track.
    let is_call = |event: &TrackEvent| event.kind() == 1 && event.number("pid") == Some(pid);
    let (begin, call) = events.iter().find(|(_, event)| is_call(event)).expect("the call");
    assert_eq!(
        (call.name(), call.number("count"), call.number("bytes")),
        ("allocate", Some(2), Some(2 << 16))
    );
    assert_eq!((track(call).name(), &*call.categories), ("camera: calls 1", &["anion".to_owned()][..]));
    let is_end = |event: &TrackEvent| event.kind() == 2 && event.track_uuid() == call.track_uuid();
    let (end, _) = events.iter().find(|(at, event)| at >= begin && is_end(event)).expect("its end");
    assert!((1..10_000_000_000).contains(&(end - begin)), "a call took {} ns", end - begin);
    // The bytes that clients held, rising and falling.
    let counts = |event: &&TrackEvent| event.kind() == 4 && track(event).name() == "camera: held";
    let values: Vec<_> =
        events.iter().map(|(_, event)| *event).filter(counts).map(TrackEvent::counter_value).collect();
    assert!(values.contains(&(2 << 16)) && values.last() == Some(&0), "{values:?}");
    let counter = tracks.values().find(|track| track.name() == "camera: held").expect("a counter");
    assert_eq!(counter.counter.as_ref().map(CounterDescriptor::unit), Some(3));
    // The refusal with its cause, the releases, and the pressure at the beginning.
    let instants: Vec<_> = events.iter().map(|(_, event)| *event).filter(|event| event.kind() == 3).collect();
    let refusal = instants.iter().find(|event| event.name() == "refuse").expect("the refusal");
    let cause = refusal.debug_annotations.iter().find(|own| own.name() == "cause").expect("a cause");
    assert!(["no_memory", "unsupported"].contains(&cause.string_value()), "{cause:?}");
    assert_eq!(instants.iter().filter(|event| event.name() == "release").count(), 2);
    assert!(instants.iter().any(|event| track(event).name() == "memory pressure"));
    let parents =
        tracks.values().filter(|track| track.parent_uuid.is_some_and(|parent| !tracks.contains_key(&parent)));
    assert_eq!(parents.count(), 0);
}

#[test]
fn earlier_events_are_left_out_unless_they_are_requested() {
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    client(&daemon).args(["alloc", "--size", "64K"]).assert().success();
    let file = daemon.directory().join("trace");
    let report = json(&daemon, &["trace", "-o", file.to_str().expect("text"), "--seconds", "0"]);
    assert_eq!(report["events"].as_u64().map(|events| events < 3), Some(true), "{report}");
    assert!(
        decode(&file)
            .packet
            .iter()
            .all(|packet| packet.track_event.as_ref().is_none_or(|event| event.kind() != 1))
    );
    let error =
        stderr(client(&daemon).args(["trace", "-o", "/nowhere/trace", "--seconds", "0"]).assert().code(5));
    assert!(error.contains("cannot write /nowhere/trace"), "{error}");
}
