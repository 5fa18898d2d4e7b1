// SPDX-License-Identifier: Apache-2.0
//! Measures the time until a buffer can be used: allocated, mapped, every page touched.

use crate::client::{Client, Origin};
use crate::report::{Section, progress};
use crate::servers::Servers;
use crate::timed::{Timed, run, text};
use crate::{SIZES, name_of};

/// Runs of every variant.
const ROUNDS: usize = 1000;
/// Runs of variants that touch this much or more.
const HEAVY_ROUNDS: usize = 60;
const HEAVY_BYTES: u64 = 1 << 20;

const ORIGINS: [Origin; 4] = [Origin::Bare, Origin::Fresh, Origin::Pooled, Origin::Unzeroed];

/// Measures each size separately, with all origins in turn. Does not wait for clean memory: the
/// time and the thread of the cleaning are part of the result.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("time until a buffer can be used");
    let client = Client::new(servers)?;
    let about = "Time in µs, p50, until a buffer can be used: allocated, mapped, every page touched. Bare is a raw exchange \
                 that passes a new memfd; no pool is the same through the service; unzeroed is a client that overwrites \
                 every byte and requests unzeroed memory.";
    let header = [
        "size",
        "bare",
        "no pool",
        "pooled",
        "unzeroed",
        "no pool to bare",
        "pooled to bare",
        "unzeroed to bare",
        "pooled to no pool",
    ];
    let mut section = Section::new("ready", about, &header);
    for bytes in SIZES {
        client.empty()?;
        client.ready(Origin::Pooled, bytes)?;
        let rounds = if bytes < HEAVY_BYTES { ROUNDS } else { HEAVY_ROUNDS };
        let one = |origin| {
            let client = &client;
            Timed::new(format!("{origin:?}"), rounds, move || client.ready(origin, bytes))
        };
        let mut timed = ORIGINS.into_iter().map(one).collect::<anyhow::Result<Vec<_>>>()?;
        run(&mut timed, |_, _| Ok(()))?;
        let [bare, fresh, pooled, unzeroed] = [0, 1, 2, 3].map(|at: usize| &timed[at]);
        let ratios =
            [fresh.ratio_to(bare), pooled.ratio_to(bare), unzeroed.ratio_to(bare), pooled.ratio_to(fresh)];
        let times = [bare, fresh, pooled, unzeroed].map(Timed::p50);
        section.row(
            [name_of(bytes)]
                .into_iter()
                .chain(times.map(|time| format!("{time:.1}")))
                .chain(ratios.map(text)),
            serde_json::json!({
                "bytes": bytes, "bare_us": times[0], "fresh_us": times[1], "pooled_us": times[2], "unzeroed_us": times[3],
                "fresh_to_bare": ratios[0], "pooled_to_bare": ratios[1], "unzeroed_to_bare": ratios[2],
                "pooled_to_fresh": ratios[3],
            }),
        );
    }
    Ok(section)
}
