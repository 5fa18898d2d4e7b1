// SPDX-License-Identifier: Apache-2.0
//! The kernel of the guest with an enforced SELinux policy.

use super::packages::Series;
use super::{BINDER, Entry, Origin, WITH_DMA_BUFS};
use crate::vm::guest::Course;
use crate::vm::{machine, selinux};

/// Debian's kernels have SELinux, and use AppArmor by default. Without an audit daemon, denials go
/// to the kernel's log, which must hold all of them.
pub(super) const ENTRY: Entry = Entry {
    name: "selinux",
    from: "newest 6.12 of the running Debian, with SELinux",
    machine: &machine::PC,
    devices: &["binder", "dma_heap/system", "udmabuf"],
    parties: WITH_DMA_BUFS,
    backings: &[],
    page: 4,
    append: "security=selinux audit=1 audit_backlog_limit=8192 log_buf_len=4M",
    takes_device_tree: false,
    course: Course::Only(&[&["devices"], &selinux::STEPS]),
    origin: Origin::System(Series {
        prefix: "6.12.",
        suffix: "-amd64",
        packages: &["linux-image-"],
        modules: BINDER,
        picture_modules: &[],
    }),
};
