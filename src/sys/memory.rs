// SPDX-License-Identifier: Apache-2.0
//! What the machine has.

use crate::units::PageSize;
use nix::unistd::{SysconfVar, sysconf};
use std::io;

fn configured(name: SysconfVar) -> io::Result<u64> {
    let value = sysconf(name)?.ok_or(io::ErrorKind::Unsupported)?;
    u64::try_from(value).map_err(io::Error::other)
}

/// The running kernel's page size.
///
/// # Errors
/// If the kernel does not tell, which no supported kernel does.
pub fn page_size() -> io::Result<PageSize> {
    PageSize::new(configured(SysconfVar::PAGE_SIZE)?).map_err(io::Error::other)
}

/// Bytes of memory that the kernel manages.
///
/// # Errors
/// If the kernel does not tell, which no supported kernel does.
pub fn total_bytes() -> io::Result<u64> {
    let pages = configured(SysconfVar::_PHYS_PAGES)?;
    Ok(pages.saturating_mul(page_size()?.bytes()))
}
