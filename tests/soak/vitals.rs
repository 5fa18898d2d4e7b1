// SPDX-License-Identifier: Apache-2.0
//! The resources of a process, from the kernel.

use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;

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
    descriptors: u64,
    watches: u64,
    threads: u64,
    memory_kib: u64,
    shmem_kib: u64,
}

impl Vitals {
    /// Returns the present figures of `pid`.
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
        // A descriptor that is closed during the loop has no watches.
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

    /// Returns the figures that have not returned to their earlier values.
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
