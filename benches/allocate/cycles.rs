// SPDX-License-Identifier: Apache-2.0
//! Measures the processor time of whole cycles.

use crate::client::{Client, Origin, map};
use crate::report::{Section, median, micros, progress};
use crate::servers::Servers;
use crate::{SIZES, name_of};
use nix::time::ClockId;
use std::time::Duration;

/// Rounds of all variants, in turn.
const ROUNDS: usize = 7;
/// Bytes that one round of a variant allocates.
const ROUND_BYTES: u64 = 256 << 20;

const ORIGINS: [Origin; 4] = [Origin::Bare, Origin::Fresh, Origin::Pooled, Origin::Unzeroed];

/// Returns the number of cycles in one round.
fn times(bytes: u64) -> u32 {
    u32::try_from(ROUND_BYTES / bytes).unwrap_or(u32::MAX).clamp(8, 400)
}

/// Measures user and system time of client and server for whole cycles, scrubbing included.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("processor time of whole cycles");
    let client = Client::new(servers)?;
    let about = "Processor time in µs of client and server together for one cycle: allocate, map, write every byte, \
                 unmap, close, and scrub if the heap has a pool.";
    let header = [
        "size",
        "bare",
        "no pool",
        "pooled",
        "unzeroed",
        "no pool to bare",
        "pooled to bare",
        "unzeroed to bare",
        "pool hits",
    ];
    let mut section = Section::new("cycles", about, &header);
    for bytes in SIZES {
        client.empty()?;
        let mut all: [Vec<Duration>; 4] = Default::default();
        let before = client.stats()?;
        for _ in 0..ROUNDS {
            for (origin, costs) in ORIGINS.into_iter().zip(&mut all) {
                costs.push(cost(servers, &client, origin, bytes)?);
            }
        }
        let after = client.stats()?;
        let hits = after.recycled - before.recycled;
        let asked = hits + after.poolMisses - before.poolMisses;
        let mut costs = [Duration::ZERO; 4];
        for (cost, all) in costs.iter_mut().zip(&all) {
            *cost = median(all)?;
        }
        let [bare, fresh, pooled, unzeroed] = costs;
        let ratios = [fresh, pooled, unzeroed].map(|cost| cost.as_secs_f64() / bare.as_secs_f64());
        section.row(
            [name_of(bytes)]
                .into_iter()
                .chain(costs.map(micros))
                .chain(ratios.map(|ratio| format!("{ratio:.2}")))
                .chain([format!("{hits} of {asked}")]),
            serde_json::json!({
                "bytes": bytes, "bare_ns": bare.as_nanos(), "fresh_ns": fresh.as_nanos(),
                "pooled_ns": pooled.as_nanos(), "unzeroed_ns": unzeroed.as_nanos(), "fresh_to_bare": ratios[0],
                "pooled_to_bare": ratios[1], "unzeroed_to_bare": ratios[2], "hits": hits, "asked": asked,
            }),
        );
    }
    Ok(section)
}

/// Returns the cost of one cycle for client and server, averaged over one round.
fn cost(servers: &Servers, client: &Client, origin: Origin, bytes: u64) -> anyhow::Result<Duration> {
    let server = if origin == Origin::Bare { servers.raw() } else { servers.service() };
    let now = || -> anyhow::Result<Duration> {
        let own = Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?);
        Ok(own + server.processor_time()?)
    };
    let start = now()?;
    for _ in 0..times(bytes) {
        let fd = client.one(origin, bytes)?;
        map(&fd, bytes)?.fill(1)?;
        drop(fd);
        // A camera does not allocate again at once either; the worker can run.
        std::thread::sleep(Duration::from_micros(200 + bytes / 4000));
    }
    client.settle()?;
    Ok((now()? - start) / times(bytes))
}
