// SPDX-License-Identifier: Apache-2.0
//! Measures dma-bufs of Anion's heaps, and of bare calls of the kernel's own. In each round every
//! variant has a turn: a few buffers in sequence, and as many at the same time, like the frames
//! that a camera has in progress. Before the next turn, released memory is pooled and cleaned.

use crate::client::touch;
use crate::name_of;
use crate::report::{Section, median, micros, progress};
use crate::servers::Servers;
use crate::ways::{InProcess, Served, Way};
use anion::testing::{DMA_HEAPS, DmaHeap, HeapName, Ion, IonHeap, MemfdFactory};
use anion_memory::Access;
use anyhow::Context;
use serde_json::json;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Buffers in bytes, and rounds.
const SIZES: [(u64, usize); 6] =
    [(4 << 10, 9), (64 << 10, 9), (1 << 20, 9), (4 << 20, 7), (8 << 20, 5), (32 << 20, 5)];
/// Buffers of one turn.
const TURN: usize = 4;
/// Most bytes of one turn, so that every pool can keep them.
const TURN_BYTES: u64 = 96 << 20;
/// ION's number of its heap of ordinary memory.
const ION_TYPE_SYSTEM: u32 = 0;
/// The variant that all others are compared with, if it exists.
const BARE: &str = "bare dma-heap";
/// The second one that they are compared with, on kernels with ION.
const BARE_ION: &str = "bare ion";

/// Anion's heaps: name, source, and further configuration.
const HEAPS: [(&str, &str, &str); 8] = [
    ("auto", "auto", "recycle;"),
    ("brokered dma-heap", "dma-heap:system", "immediate-free;"),
    ("recycled dma-heap", "dma-heap:system", "recycle;"),
    ("brokered ion", "ion:", "immediate-free;"),
    ("recycled ion", "ion:", "recycle;"),
    ("udmabuf pool", "udmabuf", ""),
    ("udmabuf pool of huge pages", "udmabuf-hugetlb", ""),
    ("memfd pool", "memfd", ""),
];

/// The origin of a variant's buffers.
enum From {
    DmaHeap(DmaHeap),
    Ion(Ion, u32),
    Heap(String),
}

/// A row for each size.
struct Variant {
    name: &'static str,
    from: From,
    times: Vec<Times>,
    /// The time of each of several buffers at the same time, until their descriptors arrive.
    at_once: Vec<Duration>,
}

/// The times of one buffer.
#[derive(Clone, Copy)]
struct Times {
    /// From the request until the descriptor arrives.
    hand_over: Duration,
    /// The same, and mapping and touching every page.
    ready: Duration,
    /// Unmapping and closing.
    free: Duration,
}

impl Variant {
    fn new(name: &'static str, from: From) -> Self {
        Self { name, from, times: Vec::new(), at_once: Vec::new() }
    }

    /// Allocates `count` buffers: with one call of Anion, or with `count` calls of the kernel.
    fn allocate(&self, way: &dyn Way, bytes: u64, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
        let bare = |one: &dyn Fn() -> std::io::Result<OwnedFd>| {
            (0..count).map(|_| Ok(one()?)).collect::<anyhow::Result<Vec<_>>>()
        };
        match &self.from {
            From::DmaHeap(heap) => bare(&|| heap.allocate(bytes, Access::ReadWrite)),
            From::Ion(device, heap) => bare(&|| device.allocate(bytes, *heap, 0)),
            From::Heap(heap) => way.allocate(heap, bytes, count),
        }
    }

    /// Times one turn.
    fn turn(&mut self, way: &dyn Way, bytes: u64) -> anyhow::Result<()> {
        let count = turn_of(bytes)?;
        let mut turn = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let fd = self.allocate(way, bytes, 1)?.pop().context("a buffer")?;
            let hand_over = start.elapsed();
            let held = touch(fd, bytes)?;
            turn.push((hand_over, start.elapsed(), held));
        }
        for (hand_over, ready, held) in turn {
            let start = Instant::now();
            drop(held);
            self.times.push(Times { hand_over, ready, free: start.elapsed() });
        }
        self.settle(way)?;
        let start = Instant::now();
        let fds = self.allocate(way, bytes, count)?;
        self.at_once.push(start.elapsed() / u32::try_from(count)?);
        // A pool keeps only files whose pages were touched.
        fds.into_iter().try_for_each(|fd| touch(fd, bytes).map(drop))?;
        self.settle(way)
    }

    fn median(&self, of: impl Fn(&Times) -> Duration) -> anyhow::Result<Duration> {
        median(&self.times.iter().map(of).collect::<Vec<_>>())
    }

    /// Returns the number of pool hits so far, and of requests that could have hit.
    fn hits(&self, way: &dyn Way) -> anyhow::Result<Hits> {
        let From::Heap(heap) = &self.from else { return Ok((0, 0)) };
        let counts = way.counts(heap)?;
        Ok((counts.hits, counts.hits + counts.misses))
    }

    /// Waits until all released memory is clean.
    fn settle(&self, way: &dyn Way) -> anyhow::Result<()> {
        let From::Heap(heap) = &self.from else { return Ok(()) };
        while way.counts(heap)?.buffers > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Returns the number of buffers of this size in one turn.
fn turn_of(bytes: u64) -> anyhow::Result<usize> {
    Ok(TURN.min(usize::try_from(TURN_BYTES / bytes)?))
}

/// The least duration of a call, under the same conditions as all others: memory is touched in
/// between.
struct Trips(Vec<Duration>);

impl Trips {
    fn turn(&mut self, way: &dyn Way, bytes: u64) -> anyhow::Result<()> {
        let memfds = MemfdFactory::probe()?;
        for _ in 0..turn_of(bytes)? {
            let start = Instant::now();
            if way.ask()? {
                self.0.push(start.elapsed());
            }
            touch(memfds.create("touched", bytes)?, bytes)?;
        }
        Ok(())
    }

    /// Returns the median; `None` without a transport.
    fn median(&self) -> anyhow::Result<Option<Duration>> {
        if self.0.is_empty() { Ok(None) } else { median(&self.0).map(Some) }
    }
}

/// Measures the variants on this machine over a transport as clients use it, and lists the missing
/// ones.
pub(crate) fn measure(_: &Servers) -> anyhow::Result<Section> {
    progress("dma-bufs");
    compare("devices", |heaps| Ok(Box::new(Served::start(heaps)?)))
}

/// Measures the same without a transport, which gives the allocator's part.
pub(crate) fn measure_in_process(_: &Servers) -> anyhow::Result<Section> {
    progress("dma-bufs within one process");
    compare("in-process", |heaps| Ok(Box::new(InProcess::new(heaps)?)))
}

fn compare(
    name: &'static str,
    start: impl FnOnce(&str) -> anyhow::Result<Box<dyn Way>>,
) -> anyhow::Result<Section> {
    let ion = Ion::open().ok().and_then(|device| {
        let heap = device.heaps().ok()?.into_iter().find(|heap| heap.kind == ION_TYPE_SYSTEM)?;
        Some((device, heap))
    });
    let ion_name = ion.as_ref().map_or("absent", |(_, heap)| heap.name.as_str()).to_owned();
    let way = start(&configuration(&ion_name)?)?;
    let (mut variants, missing) = variants(way.as_ref(), ion)?;
    let mut about = format!(
        "dma-bufs in µs, p50, {}. The times of one buffer until the client has its descriptor, and their minimum; the \
         time of each of {TURN} requested at once (fewer of large ones); the time until a buffer is mapped with every \
         page touched; the time to unmap and close it. The columns \"x\" have the time of the bare dma-heap divided by \
         that of the row, p50 by p50 (\"x ion\": of bare ION, one and ready). The last column has the additional time of \
         a brokered buffer over the bare one, in round trips.",
        way.words(),
    );
    for (name, why) in missing {
        write!(about, "\nNot run: {name}: {why}.")?;
    }
    let header = [
        "size",
        "variant",
        "one",
        "least",
        "at once",
        "ready",
        "free",
        "x one",
        "x least",
        "x at once",
        "x ready",
        "x ion",
        "x ion ready",
        "hits",
        "trips",
    ];
    let mut section = Section::new(name, about, &header);
    for (bytes, rounds) in SIZES {
        let (hits, trip) = run(&mut variants, way.as_ref(), bytes, rounds)?;
        report(&mut section, &variants, &hits, bytes, trip)?;
    }
    Ok(section)
}

/// Returns the heaps as a device tree.
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

/// Pool hits, and requests that could have hit.
type Hits = (u64, u64);

type Missing = Vec<(&'static str, String)>;

/// Returns the variants, with the bare calls first, and the causes why others are missing.
fn variants(way: &dyn Way, ion: Option<(Ion, IonHeap)>) -> anyhow::Result<(Vec<Variant>, Missing)> {
    let (mut variants, mut missing) = (Vec::new(), Missing::new());
    match DmaHeap::open(Path::new(DMA_HEAPS), &HeapName::new("system")?) {
        Ok(heap) => variants.push(Variant::new(BARE, From::DmaHeap(heap))),
        Err(error) => missing.push((BARE, error.to_string())),
    }
    match ion {
        Some((device, heap)) => variants.push(Variant::new(BARE_ION, From::Ion(device, heap.id))),
        None => missing.push((BARE_ION, "the device or the heap does not exist".to_owned())),
    }
    let heaps = way.heaps()?;
    for (name, ..) in HEAPS {
        let (heap, unavailable) =
            heaps.iter().find(|(heap, _)| *heap == node_name(name)).context("a configured heap")?;
        match unavailable {
            None => variants.push(Variant::new(name, From::Heap(heap.clone()))),
            Some(why) => missing.push((name, why.clone())),
        }
    }
    Ok((variants, missing))
}

/// Times every variant in turn; each round begins with another one. Returns the hits of each, and a
/// round trip.
fn run(
    variants: &mut [Variant],
    way: &dyn Way,
    bytes: u64,
    rounds: usize,
) -> anyhow::Result<(Vec<Hits>, Option<Duration>)> {
    // The first turn fills the pools.
    variants.iter_mut().try_for_each(|variant| variant.turn(way, bytes))?;
    for variant in variants.iter_mut() {
        variant.times.clear();
        variant.at_once.clear();
    }
    let mut trips = Trips(Vec::new());
    let before = variants.iter().map(|variant| variant.hits(way)).collect::<anyhow::Result<Vec<_>>>()?;
    for round in 0..rounds {
        for turn in 0..variants.len() {
            variants[(round + turn) % before.len()].turn(way, bytes)?;
        }
        trips.turn(way, bytes)?;
    }
    let since = |(variant, before): (&Variant, &Hits)| {
        let (hits, asked) = variant.hits(way)?;
        anyhow::Ok((hits - before.0, asked - before.1))
    };
    let hits = variants.iter().zip(&before).map(since).collect::<anyhow::Result<Vec<_>>>()?;
    // Huge buffers would leave no room for the next variant.
    way.trim()?;
    Ok((hits, trips.median()?))
}

/// The medians of one variant at one size.
struct Figures {
    one: Duration,
    /// The minimum of the times whose median is `one`: the time when nothing else runs.
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

    /// Returns whether `other` is the bare variant of this brokered one.
    fn is_brokered_from(&self, other: &Self) -> bool {
        let source = other.name.strip_prefix("bare ");
        source.is_some() && source == self.name.strip_prefix("brokered ")
    }
}

fn report(
    section: &mut Section,
    variants: &[Variant],
    hits: &[Hits],
    bytes: u64,
    trip: Option<Duration>,
) -> anyhow::Result<()> {
    let named =
        |name: &str| variants.iter().find(|variant| variant.name == name).map(Variant::figures).transpose();
    let (bare, ion) = (named(BARE)?, named(BARE_ION)?);
    if let Some(trip) = trip {
        let cells = [name_of(bytes), "a round trip, no buffer".to_owned(), micros(trip)];
        section.row(cells, json!({ "bytes": bytes, "variant": "trip", "one_ns": trip.as_nanos() }));
    }
    for (variant, (hits, asked)) in variants.iter().zip(hits) {
        let own = variant.figures()?;
        let sooner = |than: &Option<Figures>, of: fn(&Figures) -> Duration| {
            than.as_ref().map(|other| of(other).as_secs_f64() / of(&own).as_secs_f64())
        };
        let ratios = [
            sooner(&bare, |all| all.one),
            sooner(&bare, |all| all.least),
            sooner(&bare, |all| all.at_once),
            sooner(&bare, |all| all.ready),
            sooner(&ion, |all| all.one),
            sooner(&ion, |all| all.ready),
        ];
        let from = variants.iter().find(|other| variant.is_brokered_from(other));
        let from = from.map(Variant::figures).transpose()?;
        let trips = from
            .zip(trip)
            .map(|(from, trip)| (own.one.as_secs_f64() - from.one.as_secs_f64()) / trip.as_secs_f64());
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
                "times_sooner_at_once": ratios[2], "times_sooner_ready": ratios[3], "times_sooner_than_ion_one": ratios[4],
                "times_sooner_than_ion_ready": ratios[5], "hits": hits, "asked": asked, "trips_more": trips,
            }),
        );
    }
    Ok(())
}
