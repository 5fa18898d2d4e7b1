// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds of huge pages, which the administrator set aside. Each page is one physical piece,
//! aligned to its size, and uses one entry of a page table.
//!
//! A buffer's pages are allocated and zeroed with it, so a client that touches one always finds it
//! present. Clients map such a file like any other. The length of a mapping is in whole huge pages,
//! and write(2) does not work on it.

use super::memfd::MemfdSource;
use crate::sys::memfd::MemfdFactory;
use crate::sys::memory::{HugePages, huge_pages};
use crate::units::{Backing, PageSize};
use std::io;

/// Reason why huge pages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoHugePages {
    /// The kernel was built without huge pages.
    #[error("the kernel has no huge pages")]
    Unknown,
    /// None are set aside.
    #[error(
        "no huge pages are set aside; as root, echo 64 > /proc/sys/vm/nr_hugepages sets 64 of {0} bytes aside"
    )]
    Off(u64),
    /// The kernel refuses them.
    #[error("huge pages cannot be used")]
    Kernel(#[from] io::Error),
}

/// Returns a source that makes one memfd of huge pages for each buffer.
///
/// # Errors
/// If the machine has no huge pages, and its present settings never make any.
pub fn connect() -> Result<MemfdSource, NoHugePages> {
    let huge = huge_pages()?.ok_or(NoHugePages::Unknown)?;
    of(&huge)
}

fn of(huge: &HugePages) -> Result<MemfdSource, NoHugePages> {
    if !huge.are_on() {
        return Err(NoHugePages::Off(huge.bytes));
    }
    let page = PageSize::new(huge.bytes).map_err(io::Error::other)?;
    Ok(MemfdSource::with(MemfdFactory::probe_huge()?, page, Backing::Hugetlb)?.populating())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_huge_pages_says_how_to_get_them() {
        let off = HugePages { bytes: 32 << 20, total: 0, free: 0, overcommit: 0 };
        let why = of(&off).expect_err("off").to_string();
        assert!(why.contains("/proc/sys/vm/nr_hugepages") && why.contains("33554432"), "{why}");
    }
}
