// SPDX-License-Identifier: Apache-2.0
//! Reads from /proc which buffers processes hold.

use nix::sys::stat::makedev;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The device number of a file system, and an inode on it.
pub(crate) type Inode = (u64, u64);
/// Bytes of files, by their inodes.
type Files = BTreeMap<Inode, u64>;

/// The beginnings of the names of buffers in /proc: memfds, and dma-bufs.
const NAMES: [&str; 2] = ["/memfd:", "/dmabuf:"];

/// Returns the memfds and dma-bufs that a process has open. The process must be stopped or wait.
fn open_files(pid: Pid) -> Files {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").flatten();
    let is_buffer = |target: &str| NAMES.iter().any(|name| target.starts_with(name));
    let buffers = entries
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| is_buffer(&target.to_string_lossy())));
    let files = buffers.filter_map(|entry| fs::metadata(entry.path()).ok());
    files.map(|file| ((file.dev(), file.ino()), file.len())).collect()
}

/// Returns the inodes of the memfds and dma-bufs that a process has mapped.
fn mapped_files(pid: Pid) -> Vec<Inode> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let is_buffer = |line: &&str| NAMES.iter().any(|name| line.contains(&format!(" {name}")));
    maps.lines().filter(is_buffer).filter_map(inode).collect()
}

/// Returns the inode in a line of /proc/PID/maps: the fourth and the fifth word.
fn inode(line: &str) -> Option<Inode> {
    let mut words = line.split_whitespace().skip(3);
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let device = makedev(number(major)?, number(minor)?);
    Some((device, words.next()?.parse().ok()?))
}

/// Returns the inodes of the memfds and dma-bufs that a process has open or mapped.
pub(crate) fn buffers_of(pid: Pid) -> impl Iterator<Item = Inode> {
    open_files(pid).into_keys().chain(mapped_files(pid))
}

/// Returns buffers and bytes of the service's files that these processes hold.
pub(crate) fn held(service: Pid, clients: impl Iterator<Item = Pid>) -> (i64, i64) {
    let known = open_files(service);
    let mut held = Files::new();
    for client in clients {
        held.extend(buffers_of(client).filter_map(|inode| Some((inode, *known.get(&inode)?))));
    }
    let bytes: u64 = held.values().sum();
    (i64::try_from(held.len()).expect("few"), i64::try_from(bytes).expect("small"))
}
