// SPDX-License-Identifier: Apache-2.0
//! Whether anyone else has a file open: asked by taking a write lease and giving it back.
//!
//! The kernel grants a write lease only when no other open file description of the inode exists, be
//! it held by a descriptor, a mapping, a message in a socket queue or another process (fs/locks.c,
//! `check_conflicting_open`). It does not see pages pinned by other means, which is why scrubbed
//! memory stays in its trust domain.
//!
//! The asking description must have been opened through a path: the one that memfd_create(2)
//! returns is not counted in the inode's writers, and the answer would be wrong. `SIGIO` must be
//! blocked in every thread, since a process that opens the file during the microsecond of the lease
//! makes the kernel send it.

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
