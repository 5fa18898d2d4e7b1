// SPDX-License-Identifier: Apache-2.0
//! dma-bufs: through the service, beside a bare call of the kernel's own heaps. In each round every variant has its turn:
//! a few buffers one after the other, as for the pictures in flight of a camera. Before the next turn, what was let go of
//! is taken back and cleaned.

use crate::cost::heap_stats;
use crate::latency::touch;
use crate::name_of;
use crate::report::{Section, median, micros, progress};
use crate::servers::{Servers, Service, allocate};
use anion::sys::dma_heap::{DIRECTORY, DmaHeap};
use anion::sys::ion::Ion;
use anion::units::{Access, HeapName};
use anyhow::Context;
use serde_json::json;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Buffers in bytes, and rounds.
const SIZES: [(u64, usize); 6] =
    [(4 << 10, 12), (64 << 10, 12), (1 << 20, 10), (4 << 20, 8), (8 << 20, 6), (32 << 20, 5)];
/// Buffers of one turn.
const TURN: usize = 4;
/// Bytes of one turn at most, so that every pool can keep them.
const TURN_BYTES: u64 = 96 << 20;
/// ION's number of its heap of ordinary memory.
const ION_TYPE_SYSTEM: u32 = 0;
/// What all others are compared with, where it is there.
const BARE: &str = "bare dma-heap";
/// Calls whose median is a round trip.
const TRIPS: usize = 200;

/// Heaps of the service: name, source, and what else the configuration says.
const HEAPS: [(&str, &str, &str); 7] = [
    ("brokered dma-heap", "dma-heap:system", "immediate-free;"),
    ("recycled dma-heap", "dma-heap:system", "recycle;"),
    ("brokered ion", "ion:", "immediate-free;"),
    ("recycled ion", "ion:", "recycle;"),
    ("udmabuf pool", "udmabuf", ""),
    ("udmabuf pool of huge pages", "udmabuf-hugetlb", ""),
    ("memfd pool", "memfd", ""),
];

/// Where a variant's buffers come from.
enum From {
    DmaHeap(DmaHeap),
    Ion(Ion, u32),
    Heap(String),
}

/// One row for each size.
struct Variant {
    name: &'static str,
    from: From,
    times: Vec<Times>,
}

/// What one buffer took.
#[derive(Clone, Copy)]
struct Times {
    /// From the request until the descriptor is here.
    hand_over: Duration,
    /// The same and mapping, and touching every page.
    ready: Duration,
    /// Unmapping and closing.
    free: Duration,
}

impl Variant {
    fn new(name: &'static str, from: From) -> Self {
        Self { name, from, times: Vec::new() }
    }

    fn allocate(&self, service: &dyn IHeapAllocator, bytes: u64) -> anyhow::Result<OwnedFd> {
        match &self.from {
            From::DmaHeap(heap) => Ok(heap.allocate(bytes, Access::ReadWrite)?),
            From::Ion(device, heap) => Ok(device.allocate(bytes, *heap, 0)?),
            From::Heap(heap) => allocate(service, heap, bytes, 1)?.pop().context("a buffer"),
        }
    }

    /// Times one turn.
    fn turn(&mut self, service: &dyn IHeapAllocator, bytes: u64) -> anyhow::Result<()> {
        let mut turn = Vec::with_capacity(TURN);
        for _ in 0..TURN.min(usize::try_from(TURN_BYTES / bytes)?) {
            let start = Instant::now();
            let fd = self.allocate(service, bytes)?;
            let hand_over = start.elapsed();
            let held = touch(fd, bytes)?;
            turn.push((hand_over, start.elapsed(), held));
        }
        for (hand_over, ready, held) in turn {
            let start = Instant::now();
            drop(held);
            self.times.push(Times { hand_over, ready, free: start.elapsed() });
        }
        self.settle(service)
    }

    fn median(&self, of: impl Fn(&Times) -> Duration) -> anyhow::Result<Duration> {
        median(&self.times.iter().map(of).collect::<Vec<_>>())
    }

    /// Buffers from the pool so far, and buffers that could have been.
    fn hits(&self, service: &dyn IHeapAllocator) -> anyhow::Result<(i64, i64)> {
        let From::Heap(heap) = &self.from else { return Ok((0, 0)) };
        let stats = heap_stats(service, heap)?;
        Ok((stats.recycled, stats.recycled + stats.poolMisses))
    }

    /// Waits until everything that was let go of is clean.
    fn settle(&self, service: &dyn IHeapAllocator) -> anyhow::Result<()> {
        let From::Heap(heap) = &self.from else { return Ok(()) };
        while heap_stats(service, heap)?.numOfBuffers > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Measures what this machine has and names the rest.
pub(crate) fn measure(_: &Servers) -> anyhow::Result<Section> {
    progress("dma-bufs");
    let ion = Ion::open().ok().and_then(|device| {
        let heap = device.heaps().ok()?.into_iter().find(|heap| heap.kind == ION_TYPE_SYSTEM)?;
        Some((device, heap))
    });
    let ion_name = ion.as_ref().map_or("absent", |(_, heap)| heap.name.as_str()).to_owned();
    let service = Service::start(&configuration(&ion_name)?)?;
    let connection = service.connect()?;
    let (mut variants, missing) = variants(connection.service.as_ref(), ion)?;
    let trip = round_trip(connection.service.as_ref())?;
    let mut about = format!(
        "dma-bufs in µs, p50, over {}: until the descriptor is here; until it is mapped and every page is touched, too; \
         unmapping and closing. How many times sooner than the bare dma-heap (its p50 by this one's). A round trip takes \
         {} µs; the last column is how many a brokered buffer takes more than the bare one.",
        service.transport(),
        micros(trip)
    );
    for (name, why) in missing {
        write!(about, "\nNot run: {name}: {why}.")?;
    }
    let header =
        ["size", "variant", "hand-over", "ready", "free", "x sooner", "x ready", "pool hits", "trips more"];
    let mut section = Section::new("devices", about, &header);
    for (bytes, rounds) in SIZES {
        let hits = run(&mut variants, connection.service.as_ref(), bytes, rounds)?;
        report(&mut section, &variants, &hits, bytes, trip)?;
    }
    Ok(section)
}

/// The heaps as device tree.
fn configuration(ion: &str) -> anyhow::Result<String> {
    let mut text = "/dts-v1/;\n/ { anion { compatible = \"anion,heaps-v1\";\n".to_owned();
    for (id, (name, device, rest)) in HEAPS.iter().enumerate() {
        let (name, device) =
            (node_name(name), if *device == "ion:" { format!("ion:{ion}") } else { (*device).to_owned() });
        writeln!(text, "{name} {{ type = \"system\"; heap-id = <{id}>; device = \"{device}\"; {rest} }};")?;
    }
    Ok(text + "}; };")
}

fn node_name(name: &str) -> String {
    name.replace(' ', "-")
}

type Missing = Vec<(&'static str, String)>;

/// What there is, the bare calls first, and why the rest is not.
fn variants(
    service: &dyn IHeapAllocator,
    ion: Option<(Ion, anion::sys::ion::IonHeap)>,
) -> anyhow::Result<(Vec<Variant>, Missing)> {
    let (mut variants, mut missing) = (Vec::new(), Missing::new());
    match DmaHeap::open(Path::new(DIRECTORY), &HeapName::new("system")?) {
        Ok(heap) => variants.push(Variant::new(BARE, From::DmaHeap(heap))),
        Err(error) => missing.push((BARE, error.to_string())),
    }
    match ion {
        Some((device, heap)) => variants.push(Variant::new("bare ion", From::Ion(device, heap.id))),
        None => missing.push(("bare ion", "there is no such device, or no such heap".to_owned())),
    }
    let heaps = service.listHeaps().map_err(|status| anyhow::anyhow!("{status}"))?;
    for (name, ..) in HEAPS {
        let heap = heaps.iter().find(|heap| heap.name == node_name(name)).context("a configured heap")?;
        if heap.available {
            variants.push(Variant::new(name, From::Heap(node_name(name))));
        } else {
            missing.push((name, heap.unavailableReason.clone()));
        }
    }
    Ok((variants, missing))
}

/// The least that a call of the service takes.
fn round_trip(service: &dyn IHeapAllocator) -> anyhow::Result<Duration> {
    let trip = |_| {
        let start = Instant::now();
        service.getPressure().map_err(|status| anyhow::anyhow!("{status}"))?;
        Ok(start.elapsed())
    };
    median(&(0..TRIPS).map(trip).collect::<anyhow::Result<Vec<_>>>()?)
}

/// Times every variant in turn, another one first each round. Returns the hits of each.
fn run(
    variants: &mut [Variant],
    service: &dyn IHeapAllocator,
    bytes: u64,
    rounds: usize,
) -> anyhow::Result<Vec<(i64, i64)>> {
    // The first turn is for the pools to keep.
    variants.iter_mut().try_for_each(|variant| variant.turn(service, bytes))?;
    variants.iter_mut().for_each(|variant| variant.times.clear());
    let before = variants.iter().map(|variant| variant.hits(service)).collect::<anyhow::Result<Vec<_>>>()?;
    for round in 0..rounds {
        for turn in 0..variants.len() {
            variants[(round + turn) % before.len()].turn(service, bytes)?;
        }
    }
    let since = |(variant, before): (&Variant, &(i64, i64))| {
        let (hits, asked) = variant.hits(service)?;
        anyhow::Ok((hits - before.0, asked - before.1))
    };
    let hits = variants.iter().zip(&before).map(since).collect();
    // Huge ones would take the room of the next.
    service.trim("", 0).map_err(|status| anyhow::anyhow!("{status}"))?;
    hits
}

fn report(
    section: &mut Section,
    variants: &[Variant],
    hits: &[(i64, i64)],
    bytes: u64,
    trip: Duration,
) -> anyhow::Result<()> {
    let bare = variants.iter().find(|variant| variant.name == BARE);
    for (variant, (hits, asked)) in variants.iter().zip(hits) {
        let [hand_over, ready, free] = [
            variant.median(|times| times.hand_over)?,
            variant.median(|times| times.ready)?,
            variant.median(|times| times.free)?,
        ];
        let sooner = bare.map(|bare| ratio(bare.median(|times| times.hand_over), hand_over)).transpose()?;
        let ready_sooner = bare.map(|bare| ratio(bare.median(|times| times.ready), ready)).transpose()?;
        let counterpart = variants.iter().find(|other| {
            let source = other.name.strip_prefix("bare ");
            source.is_some() && source == variant.name.strip_prefix("brokered ")
        });
        let trips = counterpart
            .map(|bare| {
                let more = hand_over.as_secs_f64() - bare.median(|times| times.hand_over)?.as_secs_f64();
                anyhow::Ok(more / trip.as_secs_f64())
            })
            .transpose()?;
        let text = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
        let pool = if *asked > 0 { format!("{hits} of {asked}") } else { String::new() };
        let mut cells = vec![name_of(bytes), variant.name.to_owned()];
        cells.extend([hand_over, ready, free].map(micros));
        cells.extend([text(sooner), text(ready_sooner), pool, text(trips)]);
        section.row(
            cells,
            json!({
                "bytes": bytes, "variant": variant.name, "hand_over_ns": hand_over.as_nanos(),
                "ready_ns": ready.as_nanos(), "free_ns": free.as_nanos(), "times_sooner": sooner,
                "times_sooner_ready": ready_sooner, "hits": hits, "asked": asked, "trips_more": trips,
            }),
        );
    }
    Ok(())
}

fn ratio(bare: anyhow::Result<Duration>, own: Duration) -> anyhow::Result<f64> {
    Ok(bare?.as_secs_f64() / own.as_secs_f64())
}
