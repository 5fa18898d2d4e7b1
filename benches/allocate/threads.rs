// SPDX-License-Identifier: Apache-2.0
//! What clients get when several ask at once.

use crate::latency::touch;
use crate::report::{Section, median, progress};
use crate::servers::{Servers, allocate, raw_one};
use anyhow::Context;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long one round of a variant lasts.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;
/// Clients at once, each with a thread and a connection.
const CLIENTS: [usize; 3] = [1, 2, 4];
const READY_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy)]
enum Work {
    BareClose,
    AnionClose,
    BareReady,
    AnionReady,
}

const WORKS: [(&str, Work); 4] = [
    ("bare: memfd 4 KiB, close", Work::BareClose),
    ("anion: allocate 4 KiB, close", Work::AnionClose),
    ("bare: ready 1 MiB", Work::BareReady),
    ("anion: ready 1 MiB, pooled", Work::AnionReady),
];

/// Calls a second of all clients together.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("several clients at once");
    let about = "Throughput in calls a second of 1, 2 and 4 client threads together.";
    let mut section = Section::new("threads", about, &["variant", "1", "2", "4", "4 to 1", "4 to 4 bare"]);
    let mut rates = vec![vec![Vec::new(); CLIENTS.len()]; WORKS.len()];
    for _ in 0..ROUNDS {
        for (at, (_, work)) in WORKS.iter().enumerate() {
            for (column, clients) in CLIENTS.iter().enumerate() {
                rates[at][column].push(rate(servers, *work, *clients)?);
            }
        }
    }
    let medians: Vec<Vec<f64>> =
        rates.iter().map(|row| row.iter().map(|rates| median(rates)).collect()).collect::<Result<_, _>>()?;
    for (at, (name, _)) in WORKS.iter().enumerate() {
        let row = &medians[at];
        // Each of Anion's follows its floor.
        let (scaling, to_bare) = (row[2] / row[0], row[2] / medians[at / 2 * 2][2]);
        let mut cells = vec![(*name).to_owned()];
        cells.extend(row.iter().map(|rate| format!("{rate:.0}")));
        cells.extend([format!("{scaling:.2}"), format!("{to_bare:.2}")]);
        section
            .row(cells, serde_json::json!({ "variant": name, "clients": CLIENTS, "calls_per_second": row }));
    }
    Ok(section)
}

fn rate(servers: &Servers, work: Work, clients: usize) -> anyhow::Result<f64> {
    let barrier = Barrier::new(clients);
    let calls = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| count(servers, work, &barrier))).collect();
        let mut calls = 0;
        for thread in threads {
            calls += thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
        }
        anyhow::Ok(calls)
    })?;
    Ok(f64::from(calls) / ROUND.as_secs_f64())
}

/// Calls of one client in one round.
fn count(servers: &Servers, work: Work, barrier: &Barrier) -> anyhow::Result<u32> {
    let (connection, raw) = (servers.connect(), servers.connect_raw());
    barrier.wait();
    let (connection, raw) = (connection?, raw?);
    let service = connection.service.as_ref();
    let one = |heap, bytes| allocate(service, heap, bytes, 1)?.pop().context("a buffer");
    let (deadline, mut calls) = (Instant::now() + ROUND, 0);
    while Instant::now() < deadline {
        match work {
            Work::BareClose => drop(raw_one(&raw, 4096)?),
            Work::AnionClose => drop(one("fresh", 4096)?),
            Work::BareReady => drop(touch(raw_one(&raw, READY_BYTES)?, READY_BYTES)?),
            Work::AnionReady => drop(touch(one("pooled", READY_BYTES)?, READY_BYTES)?),
        }
        calls += 1;
    }
    Ok(calls)
}
