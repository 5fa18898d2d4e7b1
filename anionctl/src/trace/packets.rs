// SPDX-License-Identifier: Apache-2.0
//! Encodes events as packets of a Perfetto trace
//! (`perfetto/protos/perfetto/trace/trace_packet.proto` and `track_event/`). Each heap has a
//! counter of the bytes that clients hold, and tracks of calls. Memory pressure has one track.
//! Times are those of `CLOCK_BOOTTIME`, the default of a trace.

use super::encode::Message;
use crate::journal::{Deal, Event, HeapNow};

/// `TracePacket` is field 1 of `Trace`.
const PACKET: u32 = 1;
/// The only writer of the trace (`trusted_packet_sequence_id`).
const SEQUENCE: u64 = 1;
/// The parent of all other tracks.
const ROOT: u64 = 1;
/// The track of memory pressure.
const PRESSURE: u64 = 2;
/// The first number of heaps' tracks.
const FIRST: u64 = 16;

/// Fields of `TracePacket`.
mod packet {
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
}

/// Fields of `TrackDescriptor` and of `CounterDescriptor`.
mod track {
    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PARENT: u32 = 5;
    pub(super) const COUNTER: u32 = 8;
    pub(super) const COUNTER_UNIT: u32 = 3;
    /// `UNIT_SIZE_BYTES`.
    pub(super) const BYTES: u64 = 3;
}

/// Fields of `TrackEvent` and of `DebugAnnotation`, and values of its type.
mod event {
    pub(super) const ANNOTATION: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const TRACK: u32 = 11;
    pub(super) const CATEGORY: u32 = 22;
    pub(super) const NAME: u32 = 23;
    pub(super) const COUNTER_VALUE: u32 = 30;
    pub(super) const ANNOTATION_NAME: u32 = 10;
    pub(super) const ANNOTATION_NUMBER: u32 = 3;
    pub(super) const ANNOTATION_TEXT: u32 = 6;
    pub(super) const SLICE_BEGIN: u64 = 1;
    pub(super) const SLICE_END: u64 = 2;
    pub(super) const INSTANT: u64 = 3;
    pub(super) const COUNTER: u64 = 4;
}

/// Builds packets, and records which tracks are described.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    heaps: Vec<HeapTracks>,
    next: u64,
}

/// The tracks of one heap.
#[derive(Debug)]
struct HeapTracks {
    name: String,
    counter: u64,
    /// Tracks of calls, with the end of the last call on each: overlapping calls are on different
    /// tracks.
    lanes: Vec<(u64, u64)>,
}

impl Packets {
    /// Returns a builder with the tracks that every trace has.
    pub(super) fn new() -> Self {
        let mut packets = Self { next: FIRST, ..Self::default() };
        packets.describe(ROOT, None, "Anion", false);
        packets.describe(PRESSURE, Some(ROOT), "memory pressure", false);
        packets
    }

    /// Returns the packets since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Adds the bytes that clients hold of a heap at a time.
    pub(super) fn add_occupancy(&mut self, at_ns: u64, heap: &HeapNow) {
        self.count(at_ns, &heap.name, heap.live_bytes);
    }

    /// Adds the pressure level at a time.
    pub(super) fn add_pressure(&mut self, at_ns: u64, level: &str) {
        self.event(at_ns, PRESSURE, event::INSTANT, |message| message.text(event::NAME, level));
    }

    /// Adds an event of the journal.
    pub(super) fn add(&mut self, event: &Event) {
        match (&event.deal, event.level.as_deref()) {
            (None, Some(level)) => self.add_pressure(event.at_ns, level),
            (Some(deal), _) => {
                match event.what.as_str() {
                    "allocate" => self.add_call(event, deal),
                    _ => self.add_instant(event, deal),
                }
                self.count(event.at_ns, &deal.heap, deal.live_bytes);
            }
            // An event of a newer service.
            (None, None) => {}
        }
    }

    /// Adds a successful call, from its begin to its end.
    fn add_call(&mut self, event: &Event, deal: &Deal) {
        let begin = event.at_ns.saturating_sub(event.took_ns.unwrap_or(0));
        let track = self.lane(&deal.heap, begin, event.at_ns);
        self.event(begin, track, event::SLICE_BEGIN, |message| annotated(message, "allocate", event, deal));
        self.event(event.at_ns, track, event::SLICE_END, |message| message);
    }

    /// Adds a refusal or a release.
    fn add_instant(&mut self, event: &Event, deal: &Deal) {
        let track = self.lane(&deal.heap, event.at_ns, event.at_ns);
        self.event(event.at_ns, track, event::INSTANT, |message| {
            annotated(message, &event.what, event, deal)
        });
    }

    /// Returns a track of a heap without a call in progress at `begin`.
    fn lane(&mut self, heap: &str, begin: u64, end: u64) -> u64 {
        let lanes = &mut self.tracks(heap).lanes;
        if let Some((track, last)) = lanes.iter_mut().find(|(_, last)| *last <= begin) {
            *last = end;
            return *track;
        }
        let name = format!("{heap}: calls {}", lanes.len() + 1);
        let track = self.number();
        self.tracks(heap).lanes.push((track, end));
        self.describe(track, Some(ROOT), &name, false);
        track
    }

    /// Adds a value of a heap's counter.
    fn count(&mut self, at_ns: u64, heap: &str, bytes: u64) {
        let track = self.tracks(heap).counter;
        self.event(at_ns, track, event::COUNTER, |message| message.number(event::COUNTER_VALUE, bytes));
    }

    /// Returns the tracks of a heap, and describes its counter at first use.
    fn tracks(&mut self, heap: &str) -> &mut HeapTracks {
        let place = self.heaps.iter().position(|known| known.name == heap).unwrap_or_else(|| {
            let counter = self.number();
            self.describe(counter, Some(ROOT), &format!("{heap}: held"), true);
            self.heaps.push(HeapTracks { name: heap.to_owned(), counter, lanes: Vec::new() });
            self.heaps.len() - 1
        });
        &mut self.heaps[place]
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn describe(&mut self, uuid: u64, parent: Option<u64>, name: &str, is_counter: bool) {
        let mut descriptor = Message::default().number(track::UUID, uuid).text(track::NAME, name);
        if let Some(parent) = parent {
            descriptor = descriptor.number(track::PARENT, parent);
        }
        if is_counter {
            let counter = Message::default().number(track::COUNTER_UNIT, track::BYTES);
            descriptor = descriptor.message(track::COUNTER, &counter);
        }
        self.packet(Message::default().message(packet::TRACK_DESCRIPTOR, &descriptor));
    }

    fn event(&mut self, at_ns: u64, track: u64, kind: u64, with: impl FnOnce(Message) -> Message) {
        let event = Message::default().number(event::TYPE, kind).number(event::TRACK, track);
        let packet = Message::default().number(packet::TIMESTAMP, at_ns);
        self.packet(packet.message(packet::TRACK_EVENT, &with(event)));
    }

    fn packet(&mut self, packet: Message) {
        let packet = packet.number(packet::SEQUENCE_ID, SEQUENCE);
        self.bytes.extend(Message::default().message(PACKET, &packet).into_bytes());
    }
}

/// Adds a name and the details of a call.
fn annotated(message: Message, name: &str, event: &Event, deal: &Deal) -> Message {
    let numbers = [
        ("bytes", deal.bytes),
        ("count", deal.count.into()),
        ("uid", deal.uid.into()),
        ("pid", deal.pid.cast_unsigned().into()),
    ];
    let message = message.text(event::CATEGORY, "anion").text(event::NAME, name);
    let message = numbers.into_iter().fold(message, |message, (key, value)| {
        let annotation = Message::default().text(event::ANNOTATION_NAME, key);
        message.message(event::ANNOTATION, &annotation.number(event::ANNOTATION_NUMBER, value))
    });
    match &event.cause {
        Some(cause) => {
            let annotation = Message::default().text(event::ANNOTATION_NAME, "cause");
            message.message(event::ANNOTATION, &annotation.text(event::ANNOTATION_TEXT, cause))
        }
        None => message,
    }
}
