// SPDX-License-Identifier: Apache-2.0
//! Observes the accounts while clients change them: checks the rules that hold at every moment.

use crate::{POOL_LIMIT, aidl};
use aidl::{ClientUsage::ClientUsage, HeapStats::HeapStats, IHeapAllocator::IHeapAllocator};
use anion_ipc::Strong;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(5);

/// Pause between two progress messages.
const REPORT: Duration = Duration::from_secs(15);

/// Most bytes of a heap that wait for scrubbing or are being scrubbed. As much as the pool's size
/// can wait; a request without room removes all of that to scrub it, while the next bytes may
/// accumulate.
const DEFERRED_LIMIT: i64 = 4 * POOL_LIMIT;

/// The observed maxima.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) looks: u64,
    /// Most bytes of one heap that waited for scrubbing.
    pub(crate) most_deferred: i64,
}

/// Checks repeatedly until `done`.
///
/// # Errors
/// The first violations.
pub(crate) fn observe(service: &Strong<dyn IHeapAllocator>, done: &AtomicBool) -> Result<Seen> {
    let (mut seen, mut before) = (Seen::default(), HashMap::new());
    let mut reported = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let stats = service.getStats().context("getStats")?;
        let usage = service.getUsage().context("getUsage")?;
        let mut violations: Vec<String> = usage.iter().filter_map(beyond_quota).collect();
        if reported.elapsed() >= REPORT {
            let sum = |field: fn(&HeapStats) -> i64| stats.iter().map(field).sum::<i64>();
            println!("{} allocated, {} released", sum(|heap| heap.allocations), sum(|heap| heap.frees));
            reported = Instant::now();
        }
        for heap in stats {
            violations.extend(contradictions(&heap, before.get(&heap.heapId)));
            seen.most_deferred = seen.most_deferred.max(heap.deferredBytes);
            before.insert(heap.heapId, heap);
        }
        ensure!(violations.is_empty(), "{}", violations.join("\n"));
        seen.looks += 1;
        thread::sleep(PAUSE);
    }
    Ok(seen)
}

fn beyond_quota(usage: &ClientUsage) -> Option<String> {
    let beyond = |held, quota| quota > 0 && held > quota;
    let is_beyond = beyond(usage.bytes, usage.quotaBytes) || beyond(usage.buffers, usage.quotaBuffers);
    is_beyond.then(|| format!("a uid is beyond its quota: {usage:?}"))
}

/// Returns the rules that one heap violates at one moment, or in comparison with an earlier one.
fn contradictions(now: &HeapStats, before: Option<&HeapStats>) -> Vec<String> {
    let mut claims = vec![
        ("live and deferred are all bytes", now.liveBytes + now.deferredBytes == now.numOfAllocBytes),
        ("no bytes are negative", now.liveBytes >= 0 && now.deferredBytes >= 0 && now.pooledBytes >= 0),
        ("nothing is released twice", now.frees <= now.allocations),
        ("what is not released exists", now.numOfBuffers >= now.allocations - now.frees),
        ("what exists was allocated", now.numOfBuffers <= now.allocations),
        ("the watermark is the highest", now.allocBytesWm >= now.numOfAllocBytes),
        ("the pool is within its limit", now.pooledBytes <= POOL_LIMIT),
        ("what waits is bounded", now.deferredBytes <= DEFERRED_LIMIT),
        ("the heap is within its size", now.capacity == 0 || now.numOfAllocBytes <= now.capacity),
        ("no more is free than there is", now.capacity == 0 || now.largestFreeBytes <= now.capacity),
        ("fragmentation is a want of room", now.failuresFragmented <= now.failuresNoMemory),
        ("the kernel fails nothing", now.failuresBackend == 0),
    ];
    if let Some(before) = before {
        claims.extend([
            ("allocations only grow", now.allocations >= before.allocations),
            ("frees only grow", now.frees >= before.frees),
            ("the watermark only grows", now.allocBytesWm >= before.allocBytesWm),
        ]);
    }
    let broken = claims.into_iter().filter(|(_, holds)| !holds);
    broken.map(|(claim, _)| format!("not true of heap {}: {claim}: {now:?}", now.heapName)).collect()
}
