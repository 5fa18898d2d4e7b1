// SPDX-License-Identifier: Apache-2.0
//! Measures the time of one call beside the floor R: a raw exchange that passes a memfd which was
//! opened again, as a pool hit requires. Pools are warm: every call finds clean memory, so that
//! cleaning is not measured.

use crate::client::{Client, Origin};
use crate::report::{Section, progress};
use crate::servers::Servers;
use crate::timed::{Timed, run, text};
use crate::{SIZES, name_of};

/// Runs of every variant.
const ROUNDS: usize = 600;
/// Rounds between two waits for clean memory, and the most bytes of that memory. The pool has as
/// many buffers.
const MOST_WARM: u64 = 12;
const WARM_BYTES: u64 = 192 << 20;
/// Arguments of `calls` for calls that allocate no pooled buffer.
const WITHOUT_POOL: (u64, u64) = (0, MOST_WARM);
/// Size of the buffer that the service cleans just before each call of the last line.
const COLD_BYTES: u64 = 8 << 20;

/// Measures all calls, each beside the floor.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("one call");
    let client = Client::new(servers)?;
    let service = client.service();
    client.empty()?;
    let about = "One call in µs, until the client has the descriptor. R is a raw exchange over a socket, in turn with \
                 the call of its line: the server opens its memfd again and sends it by SCM_RIGHTS. Pooled buffers are \
                 clean, so that the time excludes the cleaning. Calls follow each other, except in the last line: there \
                 the service has cleaned 8 MiB before each call, which displaces its code from the caches.";
    let header = ["call", "R", "min", "p50", "p99", "p50 - R", "p50 to R", "pool hits"];
    let mut section = Section::new("latency", about, &header);
    calls(&mut section, &client, WITHOUT_POOL, "bare: new memfd", || client.one(Origin::Bare, 4096))?;
    calls(&mut section, &client, WITHOUT_POOL, "anion: getPressure", || {
        service.getPressure().map(drop).map_err(|status| anyhow::anyhow!("{status}"))
    })?;
    calls(&mut section, &client, WITHOUT_POOL, "anion: listHeaps", || {
        service.listHeaps().map(drop).map_err(|status| anyhow::anyhow!("{status}"))
    })?;
    let fresh = || client.one(Origin::Fresh, 4096);
    calls(&mut section, &client, WITHOUT_POOL, "anion: allocate 4 KiB, no pool", fresh)?;
    for bytes in SIZES {
        client.empty()?;
        let name = format!("anion: allocate {}, pooled", name_of(bytes));
        let warm = (WARM_BYTES / bytes).min(MOST_WARM);
        calls(&mut section, &client, (bytes, warm), &name, || client.one(Origin::Pooled, bytes))?;
    }
    client.empty()?;
    let name = format!("anion: allocate {}, pooled, just cleaned", name_of(COLD_BYTES));
    calls(&mut section, &client, (COLD_BYTES, 1), &name, || client.one(Origin::Pooled, COLD_BYTES))?;
    Ok(section)
}

/// Measures one kind of call, which allocates a pooled buffer of `bytes` bytes, or none for 0. The
/// pool is filled with `warm` buffers before as many calls.
fn calls<T: 'static>(
    section: &mut Section,
    client: &Client,
    (bytes, warm): (u64, u64),
    name: &str,
    call: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let mut timed =
        [Timed::new("R", ROUNDS, || client.one(Origin::Reopened, 0))?, Timed::new(name, ROUNDS, &call)?];
    let is_pooled = bytes > 0;
    let (mut hits, mut before) = (0, client.stats()?.recycled);
    run(&mut timed, |round, turn| {
        if turn > 0 || !(round as u64).is_multiple_of(warm) {
            return Ok(());
        }
        hits += client.stats()?.recycled - before;
        if is_pooled {
            client.warm(bytes, warm)?;
        }
        before = client.stats()?.recycled;
        // Exchanges without timing: cleaning has displaced both servers' code from the caches, and
        // they may sleep.
        client.service().getPressure()?;
        client.one(Origin::Reopened, 0).map(drop)
    })?;
    hits += client.stats()?.recycled - before;

    let [floor, timed] = &timed;
    let [min, p50, p99] = [0.0, 0.5, 0.99].map(|share| timed.micros(share));
    let (above, ratio) = (timed.beside(floor, |own, floor| own - floor), timed.ratio_to(floor));
    let times = [floor.p50(), min, p50, p99].map(|time| format!("{time:.1}"));
    let above_text = above.map_or("moved".to_owned(), |time| format!("{time:.1}"));
    let hits_text = if is_pooled { format!("{hits} of {ROUNDS}") } else { String::new() };
    let cells = [name.to_owned()].into_iter().chain(times).chain([above_text, text(ratio), hits_text]);
    section.row(
        cells,
        serde_json::json!({
            "call": name, "bytes": (bytes > 0).then_some(bytes), "floor_us": floor.p50(), "min_us": min, "p50_us": p50,
            "p99_us": p99, "above_floor_us": above, "to_floor": ratio, "hits": hits, "rounds": ROUNDS,
        }),
    );
    Ok(())
}
