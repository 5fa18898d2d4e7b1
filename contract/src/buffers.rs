// SPDX-License-Identifier: Apache-2.0
//! Operations on a buffer, and the expected results.

use crate::sys::{ARGUMENT, ioctl, ioctl_nowhere, map};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::unistd::{Whence, fsync, ftruncate, lseek64, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A buffer under test.
pub(crate) struct Buffer {
    pub(crate) fd: OwnedFd,
    pub(crate) bytes: usize,
    pub(crate) page: usize,
}

/// The kind of a buffer's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    DmaBuf,
    /// A sealed file of shared memory.
    Memfd,
    Ashmem,
}

/// The expected result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It succeeds and returns this number.
    Gives(i64),
    /// It succeeds and returns the size of the buffer in bytes.
    GivesSize,
    Fails(Errno),
    /// It fails with this error; in kernels of some versions it succeeds.
    FailsBySomeKernels(Errno),
}
use Answer::{Fails, FailsBySomeKernels, Gives, GivesSize};

/// An operation on a buffer, and the expected result of each kind.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Buffer) -> Result<i64, Errno>,
    /// For ION, dma-heaps and Anion. Nodes that Anion serves give buffers of the kind of its heap.
    pub(crate) dma_buf: Answer,
    pub(crate) memfd: Answer,
    pub(crate) ashmem: Answer,
    /// The reason why the kinds differ, if they do.
    pub(crate) why: &'static str,
}

impl Row {
    pub(crate) fn expected(&self, kind: Kind) -> Answer {
        match kind {
            Kind::DmaBuf => self.dma_buf,
            Kind::Memfd => self.memfd,
            Kind::Ashmem => self.ashmem,
        }
    }
}

pub(crate) const OK: Answer = Gives(0);
pub(crate) const RW: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

const SYNC: libc::Ioctl = 0x4008_6200;
pub(crate) const SYNC_READ: u64 = 1;
const SYNC_RW: u64 = 3;
pub(crate) const SYNC_END: u64 = 4;
const SET_NAME_A: libc::Ioctl = 0x4004_6201;
const SET_NAME_B: libc::Ioctl = 0x4008_6201;
const NO_SUCH: libc::Ioctl = 0x4008_6209;

const FILE: &str = "shared memory is a file: programs can read and write it, and query its sealed size";
const NO_CACHES: &str = "without a device, CPU caches need no maintenance: clients treat ENOTTY as success";

const COPIES: &str = "a private mapping is harmless; dma-heaps permit it in Linux 7, too";

pub(crate) fn shared(
    buffer: &Buffer,
    bytes: usize,
    offset: usize,
    protection: ProtFlags,
) -> Result<i64, Errno> {
    map(&buffer.fd, bytes, place(offset)?, protection, MapFlags::MAP_SHARED)
}

pub(crate) fn private(buffer: &Buffer, protection: ProtFlags) -> Result<i64, Errno> {
    map(&buffer.fd, buffer.bytes, 0, protection, MapFlags::MAP_PRIVATE)
}

pub(crate) fn sync(buffer: &Buffer, flags: u64) -> Result<i64, Errno> {
    let mut argument = [0; ARGUMENT];
    argument[..8].copy_from_slice(&flags.to_ne_bytes());
    ioctl(&buffer.fd, SYNC, &mut argument).map(i64::from)
}

fn set_name(buffer: &Buffer, request: libc::Ioctl, length: usize) -> Result<i64, Errno> {
    let mut argument = [0; ARGUMENT];
    argument[..length].fill(b'n');
    ioctl(&buffer.fd, request, &mut argument).map(i64::from)
}

fn seek(buffer: &Buffer, offset: i64, whence: Whence) -> Result<i64, Errno> {
    lseek64(&buffer.fd, offset, whence)
}

fn ready(fd: BorrowedFd<'_>) -> Result<i64, Errno> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(i64::from(fds[0].revents().unwrap_or(PollFlags::empty()).bits()))
}

fn count(bytes: usize) -> Result<i64, Errno> {
    i64::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
}

/// Returns an offset in a file. Its type has one of two widths where pointers have 32 bits.
pub(crate) fn place(bytes: usize) -> Result<libc::off_t, Errno> {
    libc::off_t::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
}

/// Builds a row: the same result for all kinds, or one for each with the reason.
macro_rules! row {
    ($name:literal, $run:expr, $all:expr) => {
        $crate::buffers::Row { name: $name, run: $run, dma_buf: $all, memfd: $all, ashmem: $all, why: "" }
    };
    ($name:literal, $run:expr, $dma_buf:expr, memfd $memfd:expr, ashmem $ashmem:expr, $why:expr) => {
        $crate::buffers::Row {
            name: $name,
            run: $run,
            dma_buf: $dma_buf,
            memfd: $memfd,
            ashmem: $ashmem,
            why: $why,
        }
    };
}

pub(crate) use row;

/// The table. Each call gets a new buffer.
pub(crate) const ROWS: &[Row] = &[
    row!("seek_end_tells_the_size", |buffer| seek(buffer, 0, Whence::SeekEnd), GivesSize),
    row!("seek_set_0", |buffer| seek(buffer, 0, Whence::SeekSet), OK),
    row!("seek_cur", |buffer| seek(buffer, 0, Whence::SeekCur), Fails(Errno::EINVAL),
        memfd OK, ashmem OK, FILE),
    row!("seek_set_1", |buffer| seek(buffer, 1, Whence::SeekSet), Fails(Errno::EINVAL),
        memfd Gives(1), ashmem Gives(1), FILE),
    row!("read", |buffer| count(read(&buffer.fd, &mut [0])?), Fails(Errno::EINVAL),
        memfd Gives(1), ashmem Gives(1), FILE),
    row!("write", |buffer| count(write(&buffer.fd, &[0])?), Fails(Errno::EINVAL),
        memfd Gives(1), ashmem Fails(Errno::EINVAL), FILE),
    row!("truncate_to_0", |buffer| ftruncate(&buffer.fd, 0).map(|()| 0), Fails(Errno::EINVAL),
        memfd Fails(Errno::EPERM), ashmem Fails(Errno::EINVAL), FILE),
    row!("grow", |buffer| ftruncate(&buffer.fd, place(buffer.bytes * 2)?).map(|()| 0), Fails(Errno::EINVAL),
        memfd Fails(Errno::EPERM), ashmem Fails(Errno::EINVAL), FILE),
    row!("punch_a_hole", |buffer| {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&buffer.fd, flags, 0, place(buffer.page)?).map(|()| 0)
    }, Fails(Errno::ENODEV), memfd OK, ashmem Fails(Errno::ENODEV), "a client may return its own pages to the kernel"),
    row!("get_seals", |buffer| {
        // Newer kernels also seal the execute permission.
        fcntl(&buffer.fd, FcntlArg::F_GET_SEALS).map(|seals| i64::from(seals & 0xf))
    }, Fails(Errno::EINVAL),
        memfd Gives(SEALS), ashmem Fails(Errno::EINVAL), "seals fix the size, as a dma-buf's is fixed, and prevent further seals"),
    row!("fsync", |buffer| fsync(&buffer.fd).map(|()| 0), Fails(Errno::EINVAL),
        memfd OK, ashmem Fails(Errno::EINVAL), FILE),
    row!("map_all", |buffer| shared(buffer, buffer.bytes, 0, RW), OK),
    row!("map_second_page", |buffer| shared(buffer, buffer.page, buffer.page, RW), OK),
    row!("map_beyond_the_end", |buffer| shared(buffer, buffer.bytes + buffer.page, 0, RW), Fails(Errno::EINVAL),
        memfd OK, ashmem Fails(Errno::EINVAL), "a file may be mapped beyond its end; access there raises SIGBUS"),
    row!("map_at_the_end", |buffer| shared(buffer, buffer.page, buffer.bytes, RW), Fails(Errno::EINVAL),
        memfd OK, ashmem OK, "a file may be mapped beyond its end; access there raises SIGBUS"),
    row!("map_private", |buffer| private(buffer, RW), FailsBySomeKernels(Errno::EINVAL),
        memfd OK, ashmem OK, COPIES),
    row!("map_private_to_read", |buffer| private(buffer, ProtFlags::PROT_READ), FailsBySomeKernels(Errno::EINVAL),
        memfd OK, ashmem OK, COPIES),
    row!("sync_without_direction", |buffer| sync(buffer, 0), Fails(Errno::EINVAL),
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("sync_start", |buffer| sync(buffer, SYNC_RW), OK,
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("sync_end_twice", |buffer| {
        // Without a begin, udmabuf refuses the end of an access to a dma-buf, and the other
        // exporters do not.
        [SYNC_RW, SYNC_RW | SYNC_END, SYNC_RW | SYNC_END].iter().try_fold(0, |_, flags| sync(buffer, *flags))
    }, OK, memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("sync_to_read", |buffer| sync(buffer, SYNC_READ).and_then(|_| sync(buffer, SYNC_READ | SYNC_END)), OK,
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("sync_unknown_flag", |buffer| sync(buffer, 8), Fails(Errno::EINVAL),
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("sync_nowhere", |buffer| ioctl_nowhere(&buffer.fd, SYNC).map(i64::from), Fails(Errno::EFAULT),
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), NO_CACHES),
    row!("name_of_4", |buffer| set_name(buffer, SET_NAME_B, 4), OK,
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), "a file gets its name when it is created"),
    row!("name_of_4_by_the_older_number", |buffer| set_name(buffer, SET_NAME_A, 4), OK,
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), "a file gets its name when it is created"),
    row!("name_of_31", |buffer| set_name(buffer, SET_NAME_B, 31), OK,
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), "a file gets its name when it is created"),
    row!("name_of_32", |buffer| set_name(buffer, SET_NAME_B, 32), Fails(Errno::EINVAL),
        memfd Fails(Errno::ENOTTY), ashmem Fails(Errno::ENOTTY), "a file gets its name when it is created"),
    row!(
        "no_such_request",
        |buffer| ioctl(&buffer.fd, NO_SUCH, &mut [0; ARGUMENT]).map(i64::from),
        Fails(Errno::ENOTTY)
    ),
    row!("poll", |buffer| ready(buffer.fd.as_fd()), Gives(READY)),
];

/// `F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW`.
const SEALS: i64 = 7;
/// `POLLIN | POLLOUT`.
const READY: i64 = 5;
