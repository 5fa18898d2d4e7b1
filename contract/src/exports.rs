// SPDX-License-Identifier: Apache-2.0
//! Tests which memory `/dev/udmabuf` accepts for a dma-buf. Anion has no such call: its heaps
//! depend on these answers.

use crate::buffers::Answer;
use crate::sys::{ARGUMENT, Range, create_udmabuf, ioctl};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek64};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const DEVICE: &str = "/dev/udmabuf";
const PARAMETERS: &str = "/sys/module/udmabuf/parameters";
const NO_SUCH: libc::Ioctl = 0x4018_7549;

/// The driver.
pub(crate) struct Device {
    file: File,
    page: u64,
}

/// A call of the driver, and the expected answer: the pages of the dma-buf, unless the name states
/// another result.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Device) -> Result<i64, Errno>,
    pub(crate) expected: Answer,
    /// The reason why kernels differ, if they do.
    pub(crate) why: &'static str,
}

impl Device {
    /// Its name in the names of tests.
    pub(crate) const NAME: &str = "udmabuf";

    /// Returns the device, if there is one.
    ///
    /// # Errors
    /// If it exists but may not be opened.
    pub(crate) fn open(page: usize) -> Result<Option<Self>> {
        match File::options().read(true).write(true).open(DEVICE) {
            Ok(file) => Ok(Some(Self { file, page: u64::try_from(page)? })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(DEVICE),
        }
    }

    /// Returns a sparse memfd with these seals.
    fn memfd(&self, pages: u64, seals: SealFlag) -> Result<OwnedFd, Errno> {
        let file = memfd_create(c"contract", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let file = File::from(file);
        file.set_len(pages * self.page)
            .map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }

    /// Returns the pages `first` to `first + pages` of a file.
    fn range(&self, file: impl AsFd, first: u64, pages: u64) -> Range {
        let memfd = file.as_fd().as_raw_fd().cast_unsigned();
        Range { memfd, offset: first * self.page, bytes: pages * self.page }
    }

    fn export(&self, ranges: &[Range]) -> Result<OwnedFd, Errno> {
        create_udmabuf(&self.file, ranges)
    }

    /// Returns the pages of a dma-buf of `ranges`.
    fn pages(&self, ranges: &[Range]) -> Result<i64, Errno> {
        let bytes = lseek64(self.export(ranges)?, 0, Whence::SeekEnd)?;
        Ok(bytes / i64::try_from(self.page).map_err(|_| Errno::EOVERFLOW)?)
    }

    /// Returns the pages of a dma-buf of a one-page file with these seals.
    fn sealed(&self, seals: SealFlag) -> Result<i64, Errno> {
        let file = self.memfd(1, seals)?;
        self.pages(&[self.range(&file, 0, 1)])
    }

    /// Returns the same for a range that `change` makes invalid.
    fn spoiled(&self, change: fn(&mut Range)) -> Result<i64, Errno> {
        let file = self.memfd(1, SHRINK)?;
        let mut range = self.range(&file, 0, 1);
        change(&mut range);
        self.pages(&[range])
    }
}

/// Returns a limit from the parameters of the driver's module; `built_in` for kernels without
/// parameters.
fn limit(name: &str, built_in: u64) -> u64 {
    let shown = fs::read_to_string(format!("{PARAMETERS}/{name}"));
    shown.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(built_in)
}

const SHRINK: SealFlag = SealFlag::F_SEAL_SHRINK;

macro_rules! row {
    ($name:literal, $run:expr, $expected:expr) => {
        row!($name, $run, $expected, "")
    };
    ($name:literal, $run:expr, $expected:expr, $why:literal) => {
        Row { name: $name, run: $run, expected: $expected, why: $why }
    };
}

const REFUSED: Answer = Answer::Fails(Errno::EINVAL);

/// The table.
pub(crate) const ROWS: &[Row] = &[
    row!("sealed_against_shrinking", |device| device.sealed(SHRINK), Answer::Gives(1)),
    row!(
        "sealed_against_growing_too",
        |device| device.sealed(SHRINK | SealFlag::F_SEAL_GROW),
        Answer::Gives(1)
    ),
    row!("sealed_for_good", |device| device.sealed(SHRINK | SealFlag::F_SEAL_SEAL), Answer::Gives(1)),
    row!("not_sealed", |device| device.sealed(SealFlag::empty()), REFUSED),
    row!("sealed_against_growing_alone", |device| device.sealed(SealFlag::F_SEAL_GROW), REFUSED),
    row!("sealed_against_writing", |device| device.sealed(SHRINK | SealFlag::F_SEAL_WRITE), REFUSED),
    row!(
        "sealed_against_writing_from_now_on",
        |device| device.sealed(SHRINK | SealFlag::F_SEAL_FUTURE_WRITE).map(|_| 0),
        Answer::FailsBySomeKernels(Errno::EINVAL),
        "older kernels ignore this seal, and the dma-buf permits writing"
    ),
    row!(
        "no_memfd",
        |device| {
            let file = File::open("/proc/self/status").map_err(|_| Errno::ENOENT)?;
            device.pages(&[device.range(&file, 0, 1)])
        },
        Answer::Fails(Errno::EBADFD)
    ),
    row!(
        "no_descriptor",
        |device| device.spoiled(|range| range.memfd = u32::MAX),
        Answer::Fails(Errno::EBADFD)
    ),
    row!("no_ranges", |device| device.pages(&[]), REFUSED),
    row!("no_bytes", |device| device.spoiled(|range| range.bytes = 0), REFUSED),
    row!("a_start_within_a_page", |device| device.spoiled(|range| range.offset = 1), REFUSED),
    row!("an_end_within_a_page", |device| device.spoiled(|range| range.bytes = 1), REFUSED),
    row!("beyond_the_end", |device| device.spoiled(|range| range.offset = range.bytes), REFUSED),
    row!(
        "a_page_twice",
        |device| {
            let file = device.memfd(1, SHRINK)?;
            device.pages(&[device.range(&file, 0, 1), device.range(&file, 0, 1)])
        },
        Answer::Gives(2)
    ),
    row!(
        "pages_of_two_files",
        |device| {
            let (one, other) = (device.memfd(1, SHRINK)?, device.memfd(3, SHRINK)?);
            device.pages(&[device.range(&one, 0, 1), device.range(&other, 1, 2)])
        },
        Answer::Gives(3)
    ),
    row!(
        "more_bytes_than_size_limit_mb",
        |device| {
            let pages = (limit("size_limit_mb", 64) << 20) / device.page + 1;
            let file = device.memfd(pages, SHRINK)?;
            device.pages(&[device.range(&file, 0, pages)])
        },
        REFUSED
    ),
    row!(
        "more_ranges_than_list_limit",
        |device| {
            let file = device.memfd(1, SHRINK)?;
            let ranges = usize::try_from(limit("list_limit", 1024) + 1).map_err(|_| Errno::EOVERFLOW)?;
            device.pages(&vec![device.range(&file, 0, 1); ranges])
        },
        REFUSED
    ),
    row!(
        "the_descriptor_is_for_reading_and_writing",
        |device| {
            let file = device.memfd(1, SHRINK)?;
            let dma_buf = device.export(&[device.range(&file, 0, 1)])?;
            fcntl(&dma_buf, FcntlArg::F_GETFL).map(|flags| i64::from(flags & OFlag::O_ACCMODE.bits()))
        },
        Answer::Gives(READ_WRITE)
    ),
    row!(
        "no_such_request",
        |device| { ioctl(&device.file, NO_SUCH, &mut [0; ARGUMENT]).map(i64::from) },
        Answer::Fails(Errno::ENOTTY)
    ),
];

/// `O_RDWR`.
const READ_WRITE: i64 = 2;
