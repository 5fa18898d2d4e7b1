// SPDX-License-Identifier: Apache-2.0
//! dma-bufs: through the service, beside a bare call of the kernel's own heaps. In each round every variant has its turn:
//! a few buffers one after the other, and as many at once, as for the pictures in flight of a camera. Before the next turn,
//! what was let go of is taken back and cleaned.

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
    [(4 << 10, 9), (64 << 10, 9), (1 << 20, 9), (4 << 20, 7), (8 << 20, 5), (32 << 20, 5)];
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
    /// Each of several at once, until their descriptors are here.
    at_once: Vec<Duration>,
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
        Self { name, from, times: Vec::new(), at_once: Vec::new() }
    }

    /// As many as `count`: in one call of the service, or as many of the kernel.
    fn allocate(
        &self,
        service: &dyn IHeapAllocator,
        bytes: u64,
        count: usize,
    ) -> anyhow::Result<Vec<OwnedFd>> {
        let bare = |one: &dyn Fn() -> std::io::Result<OwnedFd>| {
            (0..count).map(|_| Ok(one()?)).collect::<anyhow::Result<Vec<_>>>()
        };
        match &self.from {
            From::DmaHeap(heap) => bare(&|| heap.allocate(bytes, Access::ReadWrite)),
            From::Ion(device, heap) => bare(&|| device.allocate(bytes, *heap, 0)),
            From::Heap(heap) => allocate(service, heap, bytes, i32::try_from(count)?),
        }
    }

    /// Times one turn.
    fn turn(&mut self, service: &dyn IHeapAllocator, bytes: u64) -> anyhow::Result<()> {
        let count = TURN.min(usize::try_from(TURN_BYTES / bytes)?);
        let mut turn = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let fd = self.allocate(service, bytes, 1)?.pop().context("a buffer")?;
            let hand_over = start.elapsed();
            let held = touch(fd, bytes)?;
            turn.push((hand_over, start.elapsed(), held));
        }
        for (hand_over, ready, held) in turn {
            let start = Instant::now();
            drop(held);
            self.times.push(Times { hand_over, ready, free: start.elapsed() });
        }
        self.settle(service)?;
        let start = Instant::now();
        let fds = self.allocate(service, bytes, count)?;
        self.at_once.push(start.elapsed() / u32::try_from(count)?);
        // A pool keeps files that were used alone.
        fds.into_iter().try_for_each(|fd| touch(fd, bytes).map(drop))?;
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
        "dma-bufs in µs, p50, over {}: until the descriptor is here, and the least of that; each of {TURN} asked for at once (of large ones \
         fewer); until it is mapped and every page is touched, too; unmapping and closing. How many times sooner than \
         the bare dma-heap, p50 by p50. A round trip takes {} µs; the last column is how many a brokered buffer takes \
         more than the bare one.",
        service.transport(),
        micros(trip)
    );
    for (name, why) in missing {
        write!(about, "\nNot run: {name}: {why}.")?;
    }
    let header = [
        "size",
        "variant",
        "one",
        "at once",
        "ready",
        "free",
        "x one",
        "x at once",
        "x ready",
        "hits",
        "trips",
    ];
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
    for variant in variants.iter_mut() {
        variant.times.clear();
        variant.at_once.clear();
    }
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

/// One variant at one size, in medians.
struct Figures {
    one: Duration,
    /// The least of what `one` is the median of: what it takes when nothing else runs.
    least: Duration,
    at_once: Duration,
    ready: Duration,
    free: Duration,
}

impl Variant {
    fn figures(&self) -> anyhow::Result<Figures> {
        Ok(Figures {
            one: self.median(|times| times.hand_over)?,
            least: self.times.iter().map(|times| times.hand_over).min().context("a turn")?,
            at_once: median(&self.at_once)?,
            ready: self.median(|times| times.ready)?,
            free: self.median(|times| times.free)?,
        })
    }

    /// The bare variant of which this one is brokered.
    fn is_brokered_from(&self, other: &Self) -> bool {
        let source = other.name.strip_prefix("bare ");
        source.is_some() && source == self.name.strip_prefix("brokered ")
    }
}

fn report(
    section: &mut Section,
    variants: &[Variant],
    hits: &[(i64, i64)],
    bytes: u64,
    trip: Duration,
) -> anyhow::Result<()> {
    let bare = variants.iter().find(|variant| variant.name == BARE).map(Variant::figures).transpose()?;
    for (variant, (hits, asked)) in variants.iter().zip(hits) {
        let own = variant.figures()?;
        let sooner = |of: fn(&Figures) -> Duration| {
            bare.as_ref().map(|bare| of(bare).as_secs_f64() / of(&own).as_secs_f64())
        };
        let ratios = [
            sooner(|all| all.one),
            sooner(|all| all.least),
            sooner(|all| all.at_once),
            sooner(|all| all.ready),
        ];
        let from = variants.iter().find(|other| variant.is_brokered_from(other));
        let from = from.map(Variant::figures).transpose()?;
        let trips = from.map(|from| (own.one.as_secs_f64() - from.one.as_secs_f64()) / trip.as_secs_f64());
        let text = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
        let pool = if *asked > 0 { format!("{hits} of {asked}") } else { String::new() };
        let mut cells = vec![name_of(bytes), variant.name.to_owned()];
        cells.extend([own.one, own.least, own.at_once, own.ready, own.free].map(micros));
        cells.extend(ratios.map(text));
        cells.extend([pool, text(trips)]);
        section.row(
            cells,
            json!({
                "bytes": bytes, "variant": variant.name, "one_ns": own.one.as_nanos(), "least_ns": own.least.as_nanos(),
                "at_once_ns": own.at_once.as_nanos(), "ready_ns": own.ready.as_nanos(),
                "free_ns": own.free.as_nanos(), "times_sooner_one": ratios[0], "times_sooner_least": ratios[1],
                "times_sooner_at_once": ratios[2], "times_sooner_ready": ratios[3], "hits": hits, "asked": asked, "trips_more": trips,
            }),
        );
    }
    Ok(())
}
