// SPDX-License-Identifier: Apache-2.0
//! What one client waits for.

use crate::cost::settle;
use crate::report::{Section, progress};
use crate::servers::{Servers, allocate, raw_allocate, raw_one};
use crate::{SIZES, name_of};
use anion_memory::Access;
use anion_memory::map::SharedMap;
use anyhow::Context;
use hdrhistogram::Histogram;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Runs of every variant.
const ROUNDS: usize = 2000;
/// Runs of variants that touch this much or more.
const HEAVY_ROUNDS: usize = 60;
const HEAVY_BYTES: u64 = 1 << 20;
/// A floor whose median moved more than this between the halves tells nothing.
const STEADY: f64 = 0.20;

const ONE: &str = "bare: memfd 4 KiB, close";
const BATCH: &str = "bare: 16 x memfd 4 KiB, close";

/// What a variant lets go of after its time was taken.
type Held = Option<(OwnedFd, SharedMap)>;

/// Maps and touches every page, as a client does before its first use.
pub(crate) fn touch(fd: OwnedFd, bytes: u64) -> anyhow::Result<Held> {
    let page = usize::try_from(anion::testing::page_size()?.bytes())?;
    let map = SharedMap::new(&fd, usize::try_from(bytes)?, Access::ReadWrite)?;
    for offset in (0..map.len()).step_by(page) {
        map.write_at(offset, &[1])?;
    }
    Ok(Some((fd, map)))
}

/// One thing that is timed.
struct Variant<'a> {
    name: String,
    /// Name of the variant that it is compared with; its own for a floor.
    floor: String,
    /// Name of the variant that does the same without a pool.
    fresh: Option<String>,
    rounds: usize,
    work: Box<dyn Fn() -> anyhow::Result<Held> + 'a>,
    /// Nanoseconds, in the first and second half of the run.
    halves: [Histogram<u64>; 2],
}

impl<'a> Variant<'a> {
    fn new(
        name: &str,
        floor: &str,
        bytes: u64,
        work: impl Fn() -> anyhow::Result<Held> + 'a,
    ) -> anyhow::Result<Self> {
        let rounds = if bytes < HEAVY_BYTES { ROUNDS } else { HEAVY_ROUNDS };
        let halves = [Histogram::new(3)?, Histogram::new(3)?];
        let (name, floor) = (name.to_owned(), floor.to_owned());
        Ok(Self { name, floor, fresh: None, rounds, work: Box::new(work), halves })
    }

    fn all(&self) -> Histogram<u64> {
        let mut all = self.halves[0].clone();
        // The halves have the same shape, so adding them cannot fail.
        let _ = all.add(&self.halves[1]);
        all
    }

    fn p50(&self) -> f64 {
        micros(self.all().value_at_quantile(0.5))
    }

    fn is_steady(&self) -> bool {
        let [first, second] = [0, 1].map(|half: usize| micros(self.halves[half].value_at_quantile(0.5)));
        (first - second).abs() / first.min(second) <= STEADY
    }

    /// How long it takes as a multiple of `other`; `None` if that one moved.
    fn ratio_to(&self, other: &Self) -> Option<f64> {
        other.is_steady().then(|| self.p50() / other.p50())
    }
}

/// Measures all variants in turn.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("what one client waits for");
    let (connection, raw) = (servers.connect()?, servers.connect_raw()?);
    let mut variants = variants(connection.service.as_ref(), &raw)?;
    for round in 0..ROUNDS {
        for variant in variants.iter_mut().filter(|variant| round < variant.rounds) {
            let start = Instant::now();
            let held = (variant.work)()?;
            let elapsed = start.elapsed();
            drop(held);
            let half = usize::from(round * 2 >= variant.rounds);
            variant.halves[half].record(u64::try_from(elapsed.as_nanos())?)?;
        }
    }
    section(&variants)
}

/// Fills the pool with buffers of a size: one that was hardly touched would not be kept.
fn warm(service: &dyn IHeapAllocator, bytes: u64) -> anyhow::Result<()> {
    let held = allocate(service, "pooled", bytes, 20)?.into_iter().map(|fd| touch(fd, bytes));
    held.collect::<anyhow::Result<Vec<_>>>()?;
    settle(service)
}

fn variants<'a>(service: &'a dyn IHeapAllocator, raw: &'a UnixStream) -> anyhow::Result<Vec<Variant<'a>>> {
    let closed = |fds: Vec<OwnedFd>| {
        drop(fds);
        None
    };
    let mut variants = Vec::new();
    let floor = ONE;
    variants.push(Variant::new(floor, floor, 0, move || raw_allocate(raw, 4096, 1).map(closed))?);
    variants.push(Variant::new("anion: list heaps", floor, 0, move || {
        service.listHeaps().map(|_| None).map_err(|status| anyhow::anyhow!("{status}"))
    })?);
    variants.push(Variant::new("anion: allocate 4 KiB, fresh, close", floor, 0, move || {
        allocate(service, "fresh", 4096, 1).map(closed)
    })?);
    for bytes in [64 << 10, 1 << 20, 32 << 20] {
        warm(service, bytes)?;
        let name = format!("anion: allocate {}, pooled, close", name_of(bytes));
        variants
            .push(Variant::new(&name, floor, 0, move || allocate(service, "pooled", bytes, 1).map(closed))?);
    }
    let floor = BATCH;
    variants.push(Variant::new(floor, floor, 0, move || raw_allocate(raw, 4096, 16).map(closed))?);
    for (heap, bytes) in [("fresh", 4 << 10), ("pooled", 64 << 10)] {
        let name = format!("anion: allocate 16 x {}, {heap}, close", name_of(bytes));
        variants.push(Variant::new(&name, floor, 0, move || allocate(service, heap, bytes, 16).map(closed))?);
    }
    for bytes in SIZES {
        let size = name_of(bytes);
        let floor = format!("bare: ready {size}");
        variants.push(Variant::new(&floor, &floor, bytes, move || touch(raw_one(raw, bytes)?, bytes))?);
        for heap in ["fresh", "pooled"] {
            let name = format!("anion: ready {size}, {heap}");
            let mut variant = Variant::new(&name, &floor, bytes, move || {
                touch(allocate(service, heap, bytes, 1)?.pop().context("a buffer")?, bytes)
            })?;
            variant.fresh = (heap == "pooled").then(|| format!("anion: ready {size}, fresh"));
            variants.push(variant);
        }
    }
    Ok(variants)
}

#[expect(clippy::cast_precision_loss, reason = "a time that is shown")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

fn section(variants: &[Variant<'_>]) -> anyhow::Result<Section> {
    let about = "Latency in µs. The floor is a bare exchange that hands over a fresh memfd by SCM_RIGHTS; fresh is \
                 the same through the service, without a pool. Ready: allocated, mapped, every page touched.";
    let header = ["variant", "min", "p50", "p99", "to its floor", "to fresh"];
    let mut section = Section::new("latency", about, &header);
    let named = |name: &str| {
        variants.iter().find(|other| other.name == name).context("what it is compared with is a variant")
    };
    let text = |ratio: Option<f64>| ratio.map_or("moved".to_owned(), |ratio| format!("{ratio:.2}"));
    for variant in variants {
        let to_floor = variant.ratio_to(named(&variant.floor)?);
        let fresh = variant.fresh.as_deref().map(named).transpose()?;
        let to_fresh = fresh.map(|fresh| variant.ratio_to(fresh));
        let all = variant.all();
        let [min, p50, p99] =
            [all.min(), all.value_at_quantile(0.5), all.value_at_quantile(0.99)].map(micros);
        let mut cells = vec![variant.name.clone()];
        cells.extend([min, p50, p99].map(|time| format!("{time:.1}")));
        cells.extend([text(to_floor), to_fresh.map_or(String::new(), text)]);
        section.row(
            cells,
            serde_json::json!({
                "variant": variant.name, "floor": variant.floor, "rounds": all.len(),
                "min_us": min, "p50_us": p50, "p99_us": p99, "ratio": to_floor, "ratio_to_fresh": to_fresh.flatten(),
            }),
        );
    }
    let batches = [
        ("bare: each further memfd of 16", BATCH, ONE),
        (
            "anion: each further buffer of 16, fresh",
            "anion: allocate 16 x 4 KiB, fresh, close",
            "anion: allocate 4 KiB, fresh, close",
        ),
        (
            "anion: each further buffer of 16, pooled",
            "anion: allocate 16 x 64 KiB, pooled, close",
            "anion: allocate 64 KiB, pooled, close",
        ),
    ];
    for (name, batch, one) in batches {
        let each = (named(batch)?.p50() - named(one)?.p50()) / 15.0;
        let mut cells = vec![String::new(); 6];
        (cells[0], cells[2]) = (name.to_owned(), format!("{each:.1}"));
        section.row(cells, serde_json::json!({ "variant": name, "p50_us": each }));
    }
    Ok(section)
}
