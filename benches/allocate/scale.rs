// SPDX-License-Identifier: Apache-2.0
//! Measures whether the accounts cost the same with many live buffers as with none.

use crate::client::{Client, Origin};
use crate::report::{Section, median, micros, progress};
use crate::servers::Servers;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::time::Instant;

/// Live buffers.
const LIVE: [u64; 4] = [0, 1_000, 10_000, 100_000];
/// Descriptors that the most buffers need, here and in the service.
const DESCRIPTORS: u64 = 120_000;
/// Calls that are timed at each step.
const CALLS: usize = 2000;

/// Raises the limit of descriptors, for this process and the servers that it starts, to what the
/// largest step needs; an ordinary user gets at most the hard limit.
pub(crate) fn raise_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(DESCRIPTORS);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Measures a call's time, and the service's memory, with increasing numbers of live buffers.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("many live buffers");
    let client = Client::new(servers)?;
    let mut about =
        "Allocating and closing 4 KiB, in µs, with this number of other live buffers; and the bytes that each \
                     of those takes of the service's private memory."
            .to_owned();
    let header = ["live buffers", "p50", "to none", "bytes a buffer"];
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let reachable = |live: &u64| live + live / 10 < limit;
    if let Some(live) = LIVE.iter().find(|live| !reachable(live)) {
        about += &format!(
            " Rows with {live} and more are missing: this process may open only {limit} descriptors."
        );
    }
    let mut section = Section::new("scale", about, &header);
    let (mut held, mut none) = (Vec::new(), None);
    let empty = servers.service().private_bytes()?;
    for live in LIVE.into_iter().filter(reachable) {
        while (held.len() as u64) < live {
            held.extend(client.many(Origin::Pooled, 4096, 50)?);
        }
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            drop(client.one(Origin::Pooled, 4096)?);
            times.push(start.elapsed());
        }
        let p50 = median(&times)?;
        let first = *none.get_or_insert(p50);
        let ratio = p50.as_secs_f64() / first.as_secs_f64();
        let grown = servers.service().private_bytes()?.saturating_sub(empty);
        let each = grown.checked_div(live);
        section.row(
            [
                live.to_string(),
                micros(p50),
                format!("{ratio:.2}"),
                each.map_or(String::new(), |each| each.to_string()),
            ],
            serde_json::json!({ "live": live, "p50_ns": p50.as_nanos(), "ratio": ratio, "bytes_each": each }),
        );
    }
    Ok(section)
}
