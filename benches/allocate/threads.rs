// SPDX-License-Identifier: Apache-2.0
//! Measures the rates of several clients at the same time, and whether a pool is ever slower than
//! none.

use crate::client::{Client, Origin};
use crate::report::{Section, median, progress};
use crate::servers::Servers;
use crate::{SIZES, name_of};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Duration of one round of a variant.
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 5;
/// Numbers of clients at the same time, each with a thread and a connection.
const CLIENTS: [usize; 3] = [1, 2, 4];

const ORIGINS: [Origin; 4] = [Origin::Bare, Origin::Fresh, Origin::Pooled, Origin::Unzeroed];

/// The use of a buffer before it is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    MapAndTouch,
}

/// Measures the calls per second of all clients together.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("several clients at once");
    let about = "Buffers per second of 1, 2 and 4 client threads together: allocated and closed, or also mapped with every \
                 page touched in between. The last column is the time of a pooled buffer as a share of the time of one \
                 that the same service makes without a pool.";
    let header = [
        "size",
        "work",
        "clients",
        "bare",
        "no pool",
        "pooled",
        "unzeroed",
        "pooled to bare",
        "unzeroed to bare",
        "time, pooled to no pool",
    ];
    let mut section = Section::new("threads", about, &header);
    let client = Client::new(servers)?;
    for bytes in SIZES {
        for work in [Work::Nothing, Work::MapAndTouch] {
            client.empty()?;
            for (clients, rates) in CLIENTS.into_iter().zip(rates(servers, bytes, work)?) {
                row(&mut section, bytes, work, clients, rates);
            }
        }
    }
    Ok(section)
}

/// Returns the rates of all origins, which take turns, for each number of clients.
fn rates(servers: &Servers, bytes: u64, work: Work) -> anyhow::Result<[[f64; 4]; 3]> {
    let mut all: [[Vec<f64>; 4]; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (clients, rates) in CLIENTS.iter().zip(&mut all) {
            for (origin, rates) in ORIGINS.iter().zip(rates) {
                rates.push(rate(servers, *origin, bytes, work, *clients)?);
            }
        }
    }
    let mut medians = [[0.0; 4]; 3];
    for (median_of, rates) in medians.as_flattened_mut().iter_mut().zip(all.as_flattened()) {
        *median_of = median(rates)?;
    }
    Ok(medians)
}

fn row(section: &mut Section, bytes: u64, work: Work, clients: usize, rates: [f64; 4]) {
    let words = if work == Work::Nothing { "close" } else { "ready, close" };
    let [bare, fresh, pooled, unzeroed] = rates;
    let ratios = [pooled / bare, unzeroed / bare, fresh / pooled];
    let cells = [name_of(bytes), words.to_owned(), clients.to_string()];
    section.row(
        cells
            .into_iter()
            .chain(rates.map(|rate| format!("{rate:.0}")))
            .chain(ratios.map(|ratio| format!("{ratio:.2}"))),
        serde_json::json!({
            "bytes": bytes, "work": words, "clients": clients, "bare": bare, "fresh": fresh, "pooled": pooled,
            "unzeroed": unzeroed, "pooled_to_bare": ratios[0], "unzeroed_to_bare": ratios[1],
            "time_to_fresh": ratios[2],
        }),
    );
}

/// Returns the buffers per second of all clients together, in one round.
fn rate(servers: &Servers, origin: Origin, bytes: u64, work: Work, clients: usize) -> anyhow::Result<f64> {
    let barrier = Barrier::new(clients);
    let one = || own_rate(servers, origin, bytes, work, &barrier);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        let mut sum = 0.0;
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
        }
        Ok(sum)
    })
}

/// Returns the buffers per second of one client.
fn own_rate(
    servers: &Servers,
    origin: Origin,
    bytes: u64,
    work: Work,
    barrier: &Barrier,
) -> anyhow::Result<f64> {
    let client = Client::new(servers);
    barrier.wait();
    let client = client?;
    let (start, mut buffers) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        match work {
            Work::Nothing => drop(client.one(origin, bytes)?),
            Work::MapAndTouch => drop(client.ready(origin, bytes)?),
        }
        buffers += 1;
    }
    Ok(f64::from(buffers) / start.elapsed().as_secs_f64())
}
