// SPDX-License-Identifier: Apache-2.0
//! Measures how long the locks are held that allocations share.

use crate::client::touch;
use crate::report::{Section, progress};
use crate::servers::{HEAPS, Servers};
use crate::ways::{InProcess, Way};
use anion::testing::measure_locks;
use anyhow::Context;
use hdrhistogram::Histogram;

/// Threads that allocate at the same time.
const CLIENTS: usize = 4;
/// Buffers that each of them allocates from each heap.
const BUFFERS: usize = 5000;
const BYTES: u64 = 64 << 10;
/// Live buffers during the measurement.
const LIVE: usize = 320;

/// The locks, by the type that each protects, and their users.
const LOCKS: [(&str, &str); 5] = [
    ("::Registry", "registry: all calls"),
    ("::Pending", "releases not noticed yet: all calls"),
    ("::BTreeMap", "replies on their way: all calls"),
    ("::Ring", "journal: all calls"),
    ("::pool::Inner", "pool: calls of one heap"),
];

/// Has four threads allocate from two heaps in this process, and reads the times of the locks.
pub(crate) fn measure(_: &Servers) -> anyhow::Result<Section> {
    progress("locks");
    let way = InProcess::new(HEAPS)?;
    let _live =
        (0..LIVE / 32).map(|_| way.allocate("fresh", 4096, 32)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut result = Ok(());
    let held = measure_locks(|| result = all_clients(&way));
    result?;

    let about = format!(
        "Durations in ns for which locks are held, with the allocator in this process: {CLIENTS} threads, each of which \
         allocates and closes {BUFFERS} buffers of 64 KiB of a heap with a pool and as many of one without, and the \
         allocator's own threads. The longest durations are of threads that lost their processor with the lock held.",
    );
    let mut section = Section::new("locks", about, &["lock", "times held", "p50", "p99", "p99.9", "longest"]);
    for (name, times) in &held {
        // Other locks of the same type are not shared by allocations.
        let Some((_, lock)) = LOCKS.iter().find(|(ending, _)| name.contains(ending)) else { continue };
        let mut histogram = Histogram::<u64>::new(3)?;
        times
            .iter()
            .try_for_each(|time| histogram.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))?;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| histogram.value_at_quantile(share));
        let longest = histogram.max();
        let figures = [histogram.len(), p50, p99, p999, longest].map(|figure| figure.to_string());
        section.row(
            [(*lock).to_owned()].into_iter().chain(figures),
            serde_json::json!({
                "lock": lock, "times": histogram.len(), "p50_ns": p50, "p99_ns": p99, "p999_ns": p999,
                "longest_ns": longest,
            }),
        );
    }
    Ok(section)
}

fn all_clients(way: &InProcess) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| one_client(way))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))?)
    })
}

fn one_client(way: &InProcess) -> anyhow::Result<()> {
    for _ in 0..BUFFERS {
        let fd = way.allocate("pooled", BYTES, 1)?.pop().context("a buffer")?;
        // A pool keeps only touched buffers.
        drop(touch(fd, BYTES)?);
        drop(way.allocate("fresh", BYTES, 1)?);
    }
    Ok(())
}
