// SPDX-License-Identifier: Apache-2.0
//! Reads the amount of memory of the machine.

use crate::units::PageSize;
use nix::unistd::{SysconfVar, sysconf};
use std::{fs, io};

fn configured(name: SysconfVar) -> io::Result<u64> {
    let value = sysconf(name)?.ok_or(io::ErrorKind::Unsupported)?;
    u64::try_from(value).map_err(io::Error::other)
}

/// Returns the running kernel's page size.
///
/// # Errors
/// If the kernel does not report it; every supported kernel does.
pub fn page_size() -> io::Result<PageSize> {
    PageSize::new(configured(SysconfVar::PAGE_SIZE)?).map_err(io::Error::other)
}

/// Returns the bytes of memory that the kernel manages.
///
/// # Errors
/// If the kernel does not report it; every supported kernel does.
pub fn total_bytes() -> io::Result<u64> {
    let pages = configured(SysconfVar::_PHYS_PAGES)?;
    Ok(pages.saturating_mul(page_size()?.bytes()))
}

/// Directory with the memory of the machine's nodes, for a /proc that shows only processes
/// (proc(5), `subset=pid`): each node has the values of /proc/meminfo.
const NODES: &str = "/sys/devices/system/node";

/// Returns the bytes that can be used without evicting other memory: the kernel's estimate
/// (`MemAvailable`), else the sum over its nodes, including half of the page cache.
///
/// # Errors
/// If neither /proc/meminfo nor a node has the value.
pub fn available_bytes() -> io::Result<u64> {
    let kibibytes = match fs::read_to_string("/proc/meminfo") {
        Ok(text) => field(&text, "MemAvailable"),
        Err(_) => available_in_nodes(),
    };
    let kibibytes = kibibytes.ok_or_else(|| {
        let why = format!("neither /proc/meminfo nor {NODES} has the amount of available memory");
        io::Error::new(io::ErrorKind::NotFound, why)
    })?;
    Ok(kibibytes.saturating_mul(1024))
}

/// Returns the bytes that neither a process nor a cache uses.
///
/// # Errors
/// If the kernel does not report it; every supported kernel does.
pub fn free_bytes() -> io::Result<u64> {
    let pages = configured(SysconfVar::_AVPHYS_PAGES)?;
    Ok(pages.saturating_mul(page_size()?.bytes()))
}

fn available_in_nodes() -> Option<u64> {
    // The seccomp filter does not permit listing a directory.
    let online = fs::read_to_string(format!("{NODES}/online")).ok()?;
    let nodes = numbers(&online).filter_map(|node| {
        let text = fs::read_to_string(format!("{NODES}/node{node}/meminfo")).ok()?;
        available_in_node(&text)
    });
    nodes.reduce(u64::saturating_add)
}

/// Returns the numbers in a list of the kernel: single ones and ranges, such as `0-3,8`.
fn numbers(list: &str) -> impl Iterator<Item = u32> {
    list.trim().split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => Some(first..=last),
            // The list is empty.
            _ => None,
        };
        range.into_iter().flatten()
    })
}

/// Returns the available KiB of the node with this text, whose lines are `Node 0 name: number kB`.
fn available_in_node(meminfo: &str) -> Option<u64> {
    let number = |name: &str| {
        let mut lines = meminfo.lines().filter_map(|line| line.splitn(3, ' ').nth(2));
        let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let cache = ["Active(file)", "Inactive(file)", "SReclaimable"].map(|name| number(name).unwrap_or(0));
    Some(number("MemFree")?.saturating_add(cache.iter().sum::<u64>() / 2))
}

/// Huge pages of the machine's default size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// Size of one in bytes.
    pub bytes: u64,
    /// Number of reserved pages (`nr_hugepages`), including those that the kernel made beyond them.
    pub total: u64,
    /// Number of unused ones.
    pub free: u64,
    /// Number that the kernel may make beyond the reserved ones (`nr_overcommit_hugepages`).
    pub overcommit: u64,
}

impl HugePages {
    /// Parses the texts of `/proc/meminfo` and `/proc/sys/vm/nr_overcommit_hugepages`; `None` if
    /// the kernel has no huge pages.
    pub fn parse(meminfo: &str, overcommit: &str) -> Option<Self> {
        Some(Self {
            bytes: field(meminfo, "Hugepagesize")?.saturating_mul(1024),
            total: field(meminfo, "HugePages_Total").unwrap_or(0),
            free: field(meminfo, "HugePages_Free").unwrap_or(0),
            overcommit: overcommit.trim().parse().unwrap_or(0),
        })
    }

    /// Returns whether the present settings permit any huge page.
    pub fn are_on(&self) -> bool {
        self.total > 0 || self.overcommit > 0
    }
}

/// Returns the machine's huge pages; `None` if its kernel has none.
///
/// # Errors
/// If /proc/meminfo cannot be read; the message names it.
pub fn huge_pages() -> io::Result<Option<HugePages>> {
    let unread = |error: io::Error| io::Error::new(error.kind(), format!("/proc/meminfo: {error}"));
    let text = fs::read_to_string("/proc/meminfo").map_err(unread)?;
    let overcommit = fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or_default();
    Ok(HugePages::parse(&text, &overcommit))
}

/// Returns the kernel's policy of large pages for shared memory: `never`, `advise`, `always` and
/// others.
///
/// # Errors
/// `NotFound` if the kernel has no such pages.
pub fn shared_huge_policy() -> io::Result<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled")?;
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Ok(chosen.ok_or(io::ErrorKind::InvalidData)?.0.to_owned())
}

/// Returns the number of a line `name: number unit` of /proc/meminfo.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_meminfo_are_found_by_their_whole_name() {
        let text = "MemTotal:  10 kB\nHugePages_Total:       3\nHugepagesize:    2048 kB\nHugetlb:  x kB\n";
        assert_eq!(field(text, "HugePages_Total"), Some(3));
        assert_eq!(field(text, "Hugepagesize"), Some(2048));
        assert_eq!(field(text, "Huge"), None);
        assert_eq!(field(text, "Hugetlb"), None, "no number");
    }

    #[test]
    fn lists_of_the_kernel_have_numbers_and_ranges() {
        let all = |list| numbers(list).collect::<Vec<_>>();
        assert_eq!(all("0\n"), [0]);
        assert_eq!(all("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(all("\n"), [0; 0]);
    }

    #[test]
    fn a_node_tells_what_is_free_and_half_of_the_cache() {
        let text = "Node 0 MemTotal:  900 kB\nNode 0 MemFree:     100 kB\nNode 0 Active(file):  60 kB\n\
                    Node 0 Inactive(file):  30 kB\nNode 0 SReclaimable:  10 kB\n";
        assert_eq!(available_in_node(text), Some(150));
        assert_eq!(available_in_node("MemFree: 100 kB\n"), None, "of no node");
    }

    #[test]
    fn no_more_is_free_than_there_is() {
        assert!(free_bytes().expect("sysconf") <= total_bytes().expect("sysconf"));
    }

    #[test]
    fn less_is_available_than_there_is() {
        let available = available_bytes().expect("/proc/meminfo");
        assert!(available > 0 && available < total_bytes().expect("sysconf"));
    }
}
