// SPDX-License-Identifier: Apache-2.0
//! Whether anyone else has a file open: asked by taking a write lease and giving it back.
//!
//! The kernel grants a write lease only when no other open file description of the inode exists, be it held by a
//! descriptor, a mapping, a message in a socket queue or another process (fs/locks.c, `check_conflicting_open`).
//! It does not see pages pinned by other means, which is why scrubbed memory stays in its trust domain.
//!
//! The asking description must have been opened through a path: the one that memfd_create(2) returns is not
//! counted in the inode's writers, and the answer would be wrong. `SIGIO` must be blocked in every thread, since a
//! process that opens the file during the microsecond of the lease makes the kernel send it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Linux's number; some C libraries do not name it.
const F_SETLEASE: libc::c_int = 1024;

fn set(fd: impl AsFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer and touches no memory of this process; the descriptor is open for the
    // duration of the borrow.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_SETLEASE, kind) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns whether `fd`'s description is the only one of its file. Takes under a microsecond and
/// never blocks.
///
/// # Errors
/// `EINVAL` if the file system has no leases, `EACCES` if the file belongs to another uid.
pub fn is_only_holder(fd: impl AsFd) -> io::Result<bool> {
    match set(&fd, libc::F_WRLCK) {
        Ok(()) => {
            // Fails only if a concurrent caller already gave the shared lease back.
            let _ = set(&fd, libc::F_UNLCK);
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::DescriptorDirectory;
    use crate::sys::map::SharedMap;
    use crate::sys::memfd::MemfdFactory;
    use crate::units::Access;

    #[test]
    fn a_descriptor_and_a_mapping_each_count_as_a_holder() {
        let directory = DescriptorDirectory::open().expect("/proc");
        let first = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let own = directory.reopen(&first, Access::ReadWrite).expect("reopened");
        drop(first);
        assert!(is_only_holder(&own).expect("lease"));
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let client = directory.reopen(&own, access).expect("reopened");
            assert!(!is_only_holder(&own).expect("lease"), "{access:?} descriptor");
            let mapping = SharedMap::new(&client, 4096, access).expect("mapped");
            drop(client);
            assert!(!is_only_holder(&own).expect("lease"), "{access:?} mapping");
            drop(mapping);
            assert!(is_only_holder(&own).expect("lease"), "{access:?} gone");
        }
    }
}
