// SPDX-License-Identifier: Apache-2.0
//! Measures how fast released memory is cleaned, and how fast it is returned to the kernel.

use crate::client::{Client, Origin, map};
use crate::name_of;
use crate::report::{Section, median, micros, progress};
use crate::servers::Servers;
use anion_memory::map::SharedMap;
use nix::time::ClockId;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Rounds of all variants, in turn.
const ROUNDS: usize = 7;
/// Bytes that are released at once.
const ROUND_BYTES: u64 = 256 << 20;

/// Returns buffers that together have `total` bytes, with every byte written.
fn fill(
    client: &Client,
    origin: Origin,
    bytes: u64,
    total: u64,
) -> anyhow::Result<Vec<(OwnedFd, SharedMap)>> {
    let one = || {
        let fd = client.one(origin, bytes)?;
        let map = map(&fd, bytes)?;
        map.fill(1)?;
        Ok((fd, map))
    };
    (0..total / bytes).map(|_| one()).collect()
}

/// Measures how fast released memory is cleaned, beside a memset of the same memory just before.
pub(crate) fn scrub(servers: &Servers) -> anyhow::Result<Section> {
    progress("scrubbing");
    let client = Client::new(servers)?;
    let about = "Scrubbing in GB/s of processor time: the service's whole work on released buffers, beside a memset \
                 of the same buffers just before their release.";
    let mut section = Section::new("scrub", about, &["size", "memset", "scrub", "scrub to memset"]);
    // At the smallest size, as many as a pool keeps.
    for bytes in [2 << 20, 8 << 20, 32 << 20] {
        client.empty()?;
        let (mut memsets, mut scrubs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let held = fill(&client, Origin::Pooled, bytes, ROUND_BYTES)?;
            let start = ClockId::CLOCK_THREAD_CPUTIME_ID.now()?;
            for (_, map) in &held {
                map.fill(2)?;
            }
            memsets.push(rate(ROUND_BYTES, Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now()? - start)));
            let (start, before) = (servers.service().processor_time()?, client.stats()?.scrubbedBytes);
            drop(held);
            client.settle()?;
            let scrubbed = u64::try_from(client.stats()?.scrubbedBytes - before)?;
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

/// Returns the part of `time`, which `bytes` bytes took, that [`ROUND_BYTES`] took.
fn per_round(time: Duration, bytes: u64) -> anyhow::Result<Duration> {
    Ok(time * u32::try_from(ROUND_BYTES >> 20)? / u32::try_from(bytes >> 20)?)
}

/// Measures how soon pooled memory is returned to the kernel.
pub(crate) fn trim(servers: &Servers) -> anyhow::Result<Section> {
    progress("returning memory to the kernel");
    let client = Client::new(servers)?;
    let about = "Returning memory to the kernel, in µs for 256 MiB: closing as many bytes of bare memfds, and trimming a \
                 pool of released and of preallocated buffers.";
    let mut section =
        Section::new("trim", about, &["size of a buffer", "bare close", "trim", "trim to close"]);
    for bytes in [2 << 20, 16 << 20] {
        let (mut closes, mut trims) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            drop(fill(&client, Origin::Pooled, bytes, ROUND_BYTES)?);
            client.settle()?;
            let start = Instant::now();
            let returned = client.empty()?;
            trims.push(per_round(start.elapsed(), returned)?);

            // Without mappings, whose removal has its own cost. As many bytes as were trimmed,
            // since the pool also had preallocated buffers.
            let bare = fill(&client, Origin::Bare, bytes, returned)?;
            let bare: Vec<_> = bare.into_iter().map(|(fd, _)| fd).collect();
            let start = Instant::now();
            drop(bare);
            closes.push(per_round(start.elapsed(), returned)?);
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
