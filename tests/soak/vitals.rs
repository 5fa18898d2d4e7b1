// SPDX-License-Identifier: Apache-2.0
//! What a process takes from the machine, as the kernel sees it.

use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;

/// How much more memory the service may have at the end than at the start. The memory allocator
/// keeps what threads that are gone had freed, hash tables keep the room of their largest size, and
/// code is loaded when it first runs: all of that stops growing early, so that a leak outgrows it,
/// given enough operations.
const MEMORY_TOLERANCE_KIB: u64 = 8 << 10;
/// The kernel sums up page counts lazily, in batches for each processor.
const SHMEM_TOLERANCE_KIB: u64 = 512;

/// A moment in the life of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vitals {
    descriptors: u64,
    watches: u64,
    threads: u64,
    memory_kib: u64,
    shmem_kib: u64,
}

impl Vitals {
    /// Returns the figures of `pid` now.
    pub(crate) fn of(pid: Pid) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(process.join("status")).expect("the process runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("no {name} in the status of process {pid}"))
        };
        let descriptors: Vec<_> =
            fs::read_dir(process.join("fdinfo")).expect("ours to see").flatten().collect();
        // One that is closed meanwhile has no watches.
        let watches_of =
            |info: String| info.lines().filter(|line| line.starts_with("inotify wd:")).count() as u64;
        let infos = descriptors.iter().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        Self {
            descriptors: descriptors.len() as u64,
            watches: infos.map(watches_of).sum(),
            threads: field("Threads"),
            memory_kib: field("VmRSS"),
            shmem_kib: field("RssShmem"),
        }
    }

    /// Returns what has not come back to where it was.
    pub(crate) fn differences(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("open descriptors", before.descriptors, self.descriptors, 0),
            ("inotify watches", before.watches, self.watches, 0),
            ("threads", before.threads, self.threads, 0),
            ("KiB of resident memory", before.memory_kib, self.memory_kib, MEMORY_TOLERANCE_KIB),
            ("KiB of resident shared memory", before.shmem_kib, self.shmem_kib, SHMEM_TOLERANCE_KIB),
        ];
        let grown = kinds.into_iter().filter(|(_, before, now, tolerance)| *now > before + tolerance);
        grown
            .map(|(what, before, now, tolerance)| {
                format!("{now} {what}, but {before} at the start (tolerance {tolerance})")
            })
            .collect()
    }
}
