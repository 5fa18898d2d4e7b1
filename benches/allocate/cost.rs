// SPDX-License-Identifier: Apache-2.0
//! What buffers cost the machine: processor time of whole cycles, of scrubbing, and how soon memory
//! is given back.

use crate::report::{Section, median, micros, progress};
use crate::servers::{Servers, allocate, raw_one};
use crate::{SIZES, name_of};
use anion_memory::Access;
use anion_memory::map::SharedMap;
use anyhow::Context;
use nix::time::ClockId;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    HeapStats::HeapStats, IHeapAllocator::IHeapAllocator,
};

/// Times that everything is done, in turn.
const ROUNDS: usize = 7;
/// Bytes that one round of a variant goes through.
const ROUND_BYTES: u64 = 256 << 20;

/// A heap's counters.
pub(crate) fn heap_stats(service: &dyn IHeapAllocator, name: &str) -> anyhow::Result<HeapStats> {
    let stats = service.getStats().map_err(|status| anyhow::anyhow!("{status}"))?;
    stats.into_iter().find(|heap| heap.heapName == name).with_context(|| format!("the heap {name}"))
}

fn stats(service: &dyn IHeapAllocator) -> anyhow::Result<HeapStats> {
    heap_stats(service, "pooled")
}

/// Waits until everything that was let go of is clean.
pub(crate) fn settle(service: &dyn IHeapAllocator) -> anyhow::Result<()> {
    while stats(service)?.numOfBuffers > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn map(fd: &OwnedFd, bytes: u64) -> anyhow::Result<SharedMap> {
    Ok(SharedMap::new(fd, usize::try_from(bytes)?, Access::ReadWrite)?)
}

/// Empties the pool, so that what was measured before does not fill it.
fn empty(service: &dyn IHeapAllocator) -> anyhow::Result<()> {
    service.trim("pooled", 0).map(drop).map_err(|status| anyhow::anyhow!("{status}"))
}

/// Allocate, map, write every byte, unmap, close, as often as makes [`ROUND_BYTES`].
fn cycle(bytes: u64, allocate: impl Fn() -> anyhow::Result<OwnedFd>) -> anyhow::Result<()> {
    for _ in 0..times(bytes) {
        map(&allocate()?, bytes)?.fill(1)?;
        // A camera does not ask again at once either; the keeper gets its turn.
        std::thread::sleep(Duration::from_micros(200 + bytes / 4000));
    }
    Ok(())
}

fn times(bytes: u64) -> u64 {
    (ROUND_BYTES / bytes).clamp(8, 400)
}

/// Processor time of client and server for whole cycles, scrubbing included.
pub(crate) fn cycles(servers: &Servers) -> anyhow::Result<Section> {
    progress("processor time of whole cycles");
    let (connection, raw) = (servers.connect()?, servers.connect_raw()?);
    let service = connection.service.as_ref();
    let about = "Processor time in µs of client and server together for one cycle: allocate, map, write every byte, \
                 unmap, close, and scrub where there is a pool.";
    let header =
        ["size", "bare", "anion, fresh", "anion, pooled", "fresh to bare", "pooled to bare", "pool hits"];
    let mut section = Section::new("cpu", about, &header);
    for bytes in SIZES.into_iter().skip(1) {
        empty(service)?;
        let mut costs: [Vec<Duration>; 3] = Default::default();
        let before = stats(service)?;
        for _ in 0..ROUNDS {
            for (variant, costs) in costs.iter_mut().enumerate() {
                let server = if variant == 0 { servers.raw() } else { servers.service() };
                let now = || -> anyhow::Result<Duration> {
                    let own = Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?);
                    Ok(own + server.processor_time()?)
                };
                let start = now()?;
                let one = |heap| move || allocate(service, heap, bytes, 1)?.pop().context("a buffer");
                match variant {
                    0 => cycle(bytes, || raw_one(&raw, bytes))?,
                    1 => cycle(bytes, one("fresh"))?,
                    _ => cycle(bytes, one("pooled"))?,
                }
                settle(service)?;
                costs.push((now()? - start) / u32::try_from(times(bytes))?);
            }
        }
        let after = stats(service)?;
        let [bare, fresh, pooled] = [median(&costs[0])?, median(&costs[1])?, median(&costs[2])?];
        let [to_bare, pooled_to_bare] = [fresh, pooled].map(|cost| cost.as_secs_f64() / bare.as_secs_f64());
        let hits = after.recycled - before.recycled;
        let asked = hits + after.poolMisses - before.poolMisses;
        let mut cells = vec![name_of(bytes)];
        cells.extend([bare, fresh, pooled].map(micros));
        cells.extend([format!("{to_bare:.2}"), format!("{pooled_to_bare:.2}"), format!("{hits} of {asked}")]);
        section.row(
            cells,
            serde_json::json!({
                "bytes": bytes, "bare_ns": bare.as_nanos(), "fresh_ns": fresh.as_nanos(),
                "pooled_ns": pooled.as_nanos(), "pooled_to_bare": pooled_to_bare, "hits": hits, "asked": asked,
            }),
        );
    }
    Ok(section)
}

/// Buffers of the pooled heap that together have [`ROUND_BYTES`], every byte written.
fn fill(service: &dyn IHeapAllocator, bytes: u64) -> anyhow::Result<Vec<(OwnedFd, SharedMap)>> {
    let mut held = Vec::new();
    while held.len() as u64 * bytes < ROUND_BYTES {
        for fd in allocate(service, "pooled", bytes, 8)? {
            let map = map(&fd, bytes)?;
            map.fill(1)?;
            held.push((fd, map));
        }
    }
    Ok(held)
}

/// How fast released memory is cleaned, beside a memset of the same memory just before.
pub(crate) fn scrub(servers: &Servers) -> anyhow::Result<Section> {
    progress("scrubbing");
    let connection = servers.connect()?;
    let service = connection.service.as_ref();
    let about = "Scrubbing in GB/s of processor time: all the service does with released buffers, beside a memset of \
                 the same buffers before they were released.";
    let mut section = Section::new("scrub", about, &["size", "memset", "scrub", "scrub to memset"]);
    // Of the smallest, as many as a pool takes.
    for bytes in [2 << 20, 8 << 20, 32 << 20] {
        empty(service)?;
        let (mut memsets, mut scrubs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let held = fill(service, bytes)?;
            let total = bytes * held.len() as u64;
            let start = ClockId::CLOCK_THREAD_CPUTIME_ID.now()?;
            for (_, map) in &held {
                map.fill(2)?;
            }
            memsets.push(rate(total, Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now()? - start)));
            let (start, before) = (servers.service().processor_time()?, stats(service)?.scrubbedBytes);
            drop(held);
            settle(service)?;
            let scrubbed = u64::try_from(stats(service)?.scrubbedBytes - before)?;
            scrubs.push(rate(scrubbed, servers.service().processor_time()? - start));
        }
        let (memset, scrub) = (median(&memsets)?, median(&scrubs)?);
        let ratio = scrub / memset;
        section.row(
            [name_of(bytes), format!("{memset:.1}"), format!("{scrub:.1}"), format!("{ratio:.2}")],
            serde_json::json!({ "bytes": bytes, "memset_gb_s": memset, "scrub_gb_s": scrub, "ratio": ratio }),
        );
    }
    Ok(section)
}

#[expect(clippy::cast_precision_loss, reason = "a rate that is shown")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

/// How soon pooled memory is back with the kernel.
pub(crate) fn trim(servers: &Servers) -> anyhow::Result<Section> {
    progress("giving memory back");
    let (connection, raw) = (servers.connect()?, servers.connect_raw()?);
    let service = connection.service.as_ref();
    let about =
        "Giving 256 MiB back to the kernel, in µs: closing as many bare memfds, and trimming the pool.";
    let mut section =
        Section::new("trim", about, &["size of a buffer", "bare close", "trim", "trim to close"]);
    for bytes in [2 << 20, 16 << 20] {
        let (mut closes, mut trims) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let held = fill(service, bytes)?;
            drop(held);
            settle(service)?;
            let start = Instant::now();
            empty(service)?;
            trims.push(start.elapsed());

            let one = || {
                let fd = raw_one(&raw, bytes)?;
                map(&fd, bytes)?.fill(1)?;
                anyhow::Ok(fd)
            };
            let bare = (0..ROUND_BYTES / bytes).map(|_| one()).collect::<anyhow::Result<Vec<_>>>()?;
            let start = Instant::now();
            drop(bare);
            closes.push(start.elapsed());
        }
        let (close, trim) = (median(&closes)?, median(&trims)?);
        let ratio = trim.as_secs_f64() / close.as_secs_f64();
        section.row(
            [name_of(bytes), micros(close), micros(trim), format!("{ratio:.2}")],
            serde_json::json!({
                "bytes": bytes, "close_ns": close.as_nanos(), "trim_ns": trim.as_nanos(), "ratio": ratio,
            }),
        );
    }
    Ok(section)
}
