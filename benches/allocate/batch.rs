// SPDX-License-Identifier: Apache-2.0
//! Measures the cost of each additional buffer in a request.

use crate::client::{Client, Origin};
use crate::report::{Section, progress};
use crate::servers::Servers;
use crate::timed::{Timed, run};

const ROUNDS: usize = 500;
/// Buffers of a batch.
const BATCH: u64 = 16;
/// A pooled size whose mapping and cleaning are cheap.
const BYTES: u64 = 64 << 10;

const ORIGINS: [(&str, Origin); 4] = [
    ("bare: memfd opened again", Origin::Reopened),
    ("bare: new memfd", Origin::Bare),
    ("anion: no pool", Origin::Fresh),
    ("anion: pooled", Origin::Pooled),
];

/// Times one buffer and a batch of each origin in turn.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("batches");
    let client = Client::new(servers)?;
    client.empty()?;
    let mut timed = Vec::new();
    for (name, origin) in ORIGINS {
        for count in [1, BATCH] {
            let client = &client;
            let work = move || client.many(origin, BYTES, count);
            timed.push(Timed::new(name, ROUNDS, work)?);
        }
    }
    run(&mut timed, |_, _| {
        client.warm(BYTES, BATCH + 1)?;
        // Exchanges without timing: cleaning has displaced both servers' code from the caches, and
        // they may sleep.
        client.service().getPressure()?;
        client.one(Origin::Reopened, 0).map(drop)
    })?;

    let about = format!(
        "Requests for 1 and for {BATCH} buffers of 64 KiB, p50 in µs, until the client has the descriptors."
    );
    let mut section = Section::new("batch", about, &["request", "1", "16", "each further"]);
    for pair in timed.chunks(2) {
        let [one, many] = [0, 1].map(|at: usize| pair[at].p50());
        let each = (many - one) / 15.0;
        section.row(
            [pair[0].name.clone()].into_iter().chain([one, many, each].map(|time| format!("{time:.1}"))),
            serde_json::json!({ "request": pair[0].name, "one_us": one, "batch_us": many, "each_further_us": each }),
        );
    }
    Ok(section)
}
