// SPDX-License-Identifier: Apache-2.0
//! Reads from /proc which buffers processes hold.

use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Bytes of files, by their inodes. All memfds are on one file system.
type Files = BTreeMap<u64, u64>;

/// Returns the memfds that a process has open. The process must be stopped or wait.
pub(crate) fn open_files(pid: Pid) -> Files {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").flatten();
    let memfds = entries.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"))
    });
    memfds.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|file| (file.ino(), file.len())).collect()
}

/// Returns the inodes of the memfds that a process has mapped.
fn mapped_files(pid: Pid) -> Vec<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let memfds = maps.lines().filter(|line| line.contains(" /memfd:"));
    memfds.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect()
}

/// Returns buffers and bytes of the service's memfds that these processes hold.
pub(crate) fn held(service: Pid, clients: impl Iterator<Item = Pid>) -> (i64, i64) {
    let known = open_files(service);
    let mut held = Files::new();
    for client in clients {
        let inodes = open_files(client).into_keys().chain(mapped_files(client));
        held.extend(inodes.filter_map(|inode| Some((inode, *known.get(&inode)?))));
    }
    let bytes: u64 = held.values().sum();
    (i64::try_from(held.len()).expect("few"), i64::try_from(bytes).expect("small"))
}
