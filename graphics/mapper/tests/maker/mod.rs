// SPDX-License-Identifier: Apache-2.0
//! Makes the files of a graphic buffer without a service.

use anion_handle::{Handle, metadata};
use anyhow::Result;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Returns the file of the pixels and that of the metadata: memfds.
pub(crate) fn files(handle: &Handle, name: &[u8]) -> Result<[OwnedFd; 2]> {
    let page = metadata::initial(name, 0);
    Ok([sealed(handle.size(), &[])?, sealed(metadata::size(handle.request().reserved_size), &page)?])
}

/// Returns a memfd that begins with these bytes and keeps its size.
fn sealed(bytes: u64, begin: &[u8]) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let file = File::from(memfd_create(c"graphic", flags)?);
    file.set_len(bytes)?;
    file.write_all_at(begin, 0)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
