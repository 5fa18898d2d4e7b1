// SPDX-License-Identifier: Apache-2.0
//! Reads the resources of a service: those of its process from /proc, and its accounts.

use super::{DEADLINE, Daemon};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Permitted growth of the service's memory from start to end. The memory allocator keeps memory
/// that ended threads had freed, hash tables keep the capacity of their largest size, and code is
/// loaded when it first runs: all of this stops growing early, so that a leak exceeds it, with
/// enough operations.
const MEMORY_TOLERANCE_KIB: u64 = 8 << 10;
/// The kernel adds up page counts late, in batches for each processor.
const SHMEM_TOLERANCE_KIB: u64 = 512;

/// The figures of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Numbers of descriptors, by the kind of their file.
    descriptors: BTreeMap<String, u64>,
    watches: u64,
    /// Numbers of threads, by name.
    threads: BTreeMap<String, u64>,
    memory_kib: u64,
    shmem_kib: u64,
}

impl Vitals {
    /// Returns the present figures of `pid`.
    pub(crate) fn of(pid: Pid) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(process.join("status")).expect("the process runs");
        let field = |name: &str| {
            number_in(&status, name).unwrap_or_else(|| panic!("no {name} in the status of process {pid}"))
        };
        let infos: Vec<_> = fs::read_dir(process.join("fdinfo")).expect("ours to see").flatten().collect();
        // A descriptor that is closed during the loop has no watches.
        let watches_of =
            |info: String| info.lines().filter(|line| line.starts_with("inotify wd:")).count() as u64;
        let infos = infos.iter().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        Self {
            descriptors: descriptors_of(&process),
            watches: infos.map(watches_of).sum(),
            threads: threads_of(&process),
            memory_kib: field("VmRSS"),
            shmem_kib: field("RssShmem"),
        }
    }

    /// Returns the number of threads that serve connections.
    pub(crate) fn sessions(&self) -> u64 {
        self.threads.get("rpc-conn").copied().unwrap_or_default()
    }

    /// Returns the background threads that have ended since.
    fn threads_lost(&self, before: &Self) -> Vec<String> {
        let is_kept = |name: &str| name.starts_with("anion-") || ["accept", "socket-keeper"].contains(&name);
        let of_service = before.threads.iter().filter(|(name, _)| is_kept(name));
        let lost = of_service.filter(|(name, count)| self.threads.get(*name).unwrap_or(&0) < count);
        lost.map(|(name, count)| format!("of {count} threads {name}, some have ended")).collect()
    }

    /// Returns the figures that have not returned to their earlier values.
    fn differences(&self, before: &Self) -> Vec<String> {
        let more = |(kind, count): (&String, &u64)| {
            let more = count.saturating_sub(before.descriptors.get(kind).copied().unwrap_or_default());
            (more > 0).then(|| format!("{more} more descriptors of {kind}"))
        };
        let all = |vitals: &Self| vitals.descriptors.values().sum::<u64>();
        let mut found = Vec::new();
        if all(self) > all(before) {
            found.extend(self.descriptors.iter().filter_map(more));
        }
        let kinds = [
            ("inotify watches", before.watches, self.watches, 0),
            ("threads", before.threads.values().sum(), self.threads.values().sum(), 0),
            ("KiB of resident memory", before.memory_kib, self.memory_kib, MEMORY_TOLERANCE_KIB),
            ("KiB of resident shared memory", before.shmem_kib, self.shmem_kib, SHMEM_TOLERANCE_KIB),
        ];
        let grown = kinds.into_iter().filter(|(_, before, now, tolerance)| *now > before + tolerance);
        found.extend(grown.map(|(what, before, now, tolerance)| {
            format!("{now} {what}, but {before} at the start (tolerance {tolerance})")
        }));
        found
    }
}

/// Returns the number of a field of a file in /proc, such as `VmRSS: 4 kB`; `None` if the text does
/// not have the field.
pub(crate) fn number_in(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Counts the descriptors of a process by the kind of their file: its name without numbers.
fn descriptors_of(process: &Path) -> BTreeMap<String, u64> {
    let mut descriptors = BTreeMap::new();
    for entry in fs::read_dir(process.join("fd")).expect("ours to see").flatten() {
        // One that has just been closed has no name.
        if let Ok(name) = fs::read_link(entry.path()) {
            let name = name.to_string_lossy().replace(|letter: char| letter.is_ascii_digit(), "");
            *descriptors.entry(name).or_default() += 1;
        }
    }
    descriptors
}

/// Counts the threads of a process by name.
fn threads_of(process: &Path) -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(process.join("task")).expect("the process runs").flatten() {
        // A thread that has just ended has no name.
        if let Ok(name) = fs::read_to_string(task.path().join("comm")) {
            *threads.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    threads
}

/// Waits until a service has the figures that it had `before`, and `entries` returns none. Checks
/// that no thread has panicked.
///
/// # Panics
/// With everything that is left, after [`DEADLINE`].
pub(crate) fn assert_nothing_left(
    daemon: &Daemon,
    before: &Vitals,
    context: &str,
    entries: impl Fn() -> Vec<String>,
) {
    await_none(context, || {
        let mut left = entries();
        let now = Vitals::of(daemon.pid());
        left.extend(now.differences(before));
        left.extend(now.threads_lost(before));
        left
    });
    assert_no_panics(daemon, context);
}

/// Waits until `faults` returns none.
///
/// # Panics
/// With the faults, after [`DEADLINE`].
pub(crate) fn await_none(context: &str, faults: impl Fn() -> Vec<String>) {
    let started = Instant::now();
    loop {
        let faults = faults();
        if faults.is_empty() {
            return;
        }
        let waited = started.elapsed();
        assert!(waited < DEADLINE, "{context}, after {waited:.0?}:\n{}", faults.join("\n"));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Checks that the log of a service reports no panic.
pub(crate) fn assert_no_panics(daemon: &Daemon, context: &str) {
    let log = daemon.log();
    let panics: Vec<_> = log.lines().filter(|line| line.contains("panic")).collect();
    assert!(panics.is_empty(), "{context}: the service logged:\n{}", panics.join("\n"));
}

/// Trims all pools, and returns the entries of the accounts that are not zero. No client may hold a
/// buffer.
///
/// # Errors
/// If the service does not answer, or the caller may not trim.
pub(crate) fn entries_left(service: &dyn IHeapAllocator) -> anion_ipc::Result<Vec<String>> {
    service.trim("", 0)?;
    let usage = service.getUsage()?;
    let held = usage.iter().filter(|row| row.bytes != 0 || row.buffers != 0 || row.reservedBytes != 0);
    let held = held.map(|usage| format!("uid {} holds {usage:?}", usage.uid));
    let stats = service.getStats()?;
    let unlike = stats.iter().filter(|heap| {
        let gone = [heap.numOfBuffers, heap.numOfAllocBytes, heap.pooledBytes, heap.allocations - heap.frees];
        // Memory that was set aside is in one piece again; heaps without such memory report 0.
        let broken = heap.largestFreeBytes != 0 && heap.largestFreeBytes != heap.capacity;
        broken || gone.iter().any(|number| *number != 0)
    });
    Ok(held.chain(unlike.map(|heap| format!("heap {} has {heap:?}", heap.heapName))).collect())
}
