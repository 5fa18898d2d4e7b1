// SPDX-License-Identifier: Apache-2.0
//! Detects whether another open file description of a file exists, by taking a write lease and
//! releasing it.
//!
//! The kernel grants a write lease only when no other open file description of the inode exists:
//! not in a descriptor, a mapping, a message in a socket queue or another process (fs/locks.c,
//! `check_conflicting_open`). It does not consider pages pinned by other means, so scrubbed memory
//! stays in its trust domain.
//!
//! The asking description must have been opened through a path: the kernel does not count the one
//! that memfd_create(2) returns among the inode's writers, and the result would be wrong. `SIGIO`
//! must be blocked in every thread, since the kernel sends it when a process opens the file during
//! the microsecond of the lease.

pub use anion_memory::lease::is_only_holder;

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
