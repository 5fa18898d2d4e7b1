// SPDX-License-Identifier: Apache-2.0
//! What the machine has.

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
/// If the kernel does not tell, which no supported kernel does.
pub fn page_size() -> io::Result<PageSize> {
    PageSize::new(configured(SysconfVar::PAGE_SIZE)?).map_err(io::Error::other)
}

/// Returns the bytes of memory that the kernel manages.
///
/// # Errors
/// If the kernel does not tell, which no supported kernel does.
pub fn total_bytes() -> io::Result<u64> {
    let pages = configured(SysconfVar::_PHYS_PAGES)?;
    Ok(pages.saturating_mul(page_size()?.bytes()))
}

/// Returns the bytes that can be used without pushing others out, as the kernel estimates it
/// (`MemAvailable`).
///
/// # Errors
/// If /proc is not mounted.
pub fn available_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kibibytes = field(&text, "MemAvailable").ok_or(io::ErrorKind::InvalidData)?;
    Ok(kibibytes.saturating_mul(1024))
}

/// Huge pages of the machine's default size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// Bytes of one.
    pub bytes: u64,
    /// How many the administrator set aside (`nr_hugepages`), those made beyond that included.
    pub total: u64,
    /// How many of them are not in use.
    pub free: u64,
    /// How many more the kernel may make when asked (`nr_overcommit_hugepages`).
    pub overcommit: u64,
}

impl HugePages {
    /// Returns what the texts of `/proc/meminfo` and `/proc/sys/vm/nr_overcommit_hugepages` say;
    /// `None` if the kernel knows none.
    pub fn parse(meminfo: &str, overcommit: &str) -> Option<Self> {
        Some(Self {
            bytes: field(meminfo, "Hugepagesize")?.saturating_mul(1024),
            total: field(meminfo, "HugePages_Total").unwrap_or(0),
            free: field(meminfo, "HugePages_Free").unwrap_or(0),
            overcommit: overcommit.trim().parse().unwrap_or(0),
        })
    }

    /// Returns whether there can ever be one, as the machine is set up now.
    pub fn are_on(&self) -> bool {
        self.total > 0 || self.overcommit > 0
    }
}

/// Returns the machine's huge pages; `None` if its kernel knows none.
///
/// # Errors
/// If /proc is not mounted.
pub fn huge_pages() -> io::Result<Option<HugePages>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let overcommit = fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages").unwrap_or_default();
    Ok(HugePages::parse(&text, &overcommit))
}

/// Returns when the kernel backs shared memory with large pages of its own accord: `never`,
/// `advise`, `always` and the like.
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
    fn less_is_available_than_there_is() {
        let available = available_bytes().expect("/proc/meminfo");
        assert!(available > 0 && available < total_bytes().expect("sysconf"));
    }
}
