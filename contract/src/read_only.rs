// SPDX-License-Identifier: Apache-2.0
//! Operations on a read-only buffer, and the expected results.

use crate::buffers::{Answer, OK, RW, Row, SYNC_END, SYNC_READ, place, private, row, shared, sync};
use crate::sys::map_and_protect;
use Answer::{Fails, FailsBySomeKernels, Gives};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::sys::mman::ProtFlags;
use nix::unistd::write;

const READ: ProtFlags = ProtFlags::PROT_READ;
const BY_REGION: &str = "ashmem's descriptors permit writing; the region itself refuses it";
const FILE: &str = "a private mapping of a file is harmless; dma-bufs permit it in Linux 7, too";

/// The table. Each call gets a new buffer.
pub(crate) const ROWS: &[Row] = &[
    row!("map_to_read", |buffer| shared(buffer, buffer.bytes, 0, READ), OK),
    row!("map_to_write", |buffer| shared(buffer, buffer.bytes, 0, RW), Fails(Errno::EACCES),
        memfd Fails(Errno::EACCES), ashmem Fails(Errno::EPERM), BY_REGION),
    row!(
        "map_to_read_and_then_to_write",
        |buffer| map_and_protect(&buffer.fd, buffer.bytes, READ, RW),
        Fails(Errno::EACCES)
    ),
    row!("map_a_copy_to_write", |buffer| private(buffer, RW), FailsBySomeKernels(Errno::EINVAL),
        memfd OK, ashmem Fails(Errno::EPERM), FILE),
    row!("write", |buffer| write(&buffer.fd, &[0]).map(|_| 0), Fails(Errno::EBADF),
        memfd Fails(Errno::EBADF), ashmem Fails(Errno::EINVAL), BY_REGION),
    row!("punch_a_hole", |buffer| {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&buffer.fd, flags, 0, place(buffer.page)?).map(|()| 0)
    }, Fails(Errno::EBADF), memfd Fails(Errno::EBADF), ashmem Fails(Errno::ENODEV), BY_REGION),
    row!("access_mode", |buffer| {
        fcntl(&buffer.fd, FcntlArg::F_GETFL).map(|flags| i64::from(flags & OFlag::O_ACCMODE.bits()))
    }, OK, memfd OK, ashmem Gives(READ_WRITE), BY_REGION),
    row!(
        "sync_to_read",
        |buffer| sync(buffer, SYNC_READ).and_then(|_| sync(buffer, SYNC_READ | SYNC_END)),
        OK,
        memfd Fails(Errno::ENOTTY),
        ashmem Fails(Errno::ENOTTY),
        "without a device, CPU caches need no maintenance"
    ),
];

/// `O_RDWR`.
const READ_WRITE: i64 = 2;
