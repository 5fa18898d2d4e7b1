// SPDX-License-Identifier: Apache-2.0
//! Makes dma-bufs of ranges of a memfd (`drivers/dma-buf/udmabuf.c`).

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The device.
pub const DEVICE: &str = "/dev/udmabuf";
/// Directory of the module's limits.
const PARAMETERS: &str = "/sys/module/udmabuf/parameters";

nix::ioctl_write_ptr_bad!(
    /// `UDMABUF_CREATE_LIST`: `struct udmabuf_create_list` is 8 bytes, followed by items of 24
    /// bytes.
    udmabuf_create_list,
    nix::request_code_write!(b'u', 0x43, 8),
    u64
);

/// Makes the new descriptor close-on-exec.
const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

/// Limits of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most ranges of one dma-buf.
    pub ranges: u64,
    /// Most bytes of one dma-buf.
    pub bytes: u64,
}

/// The open device.
#[derive(Debug)]
pub struct Udmabuf(OwnedFd);

impl Udmabuf {
    /// Opens the device.
    ///
    /// # Errors
    /// As open(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self(open(DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?))
    }

    /// Returns a dma-buf of `ranges` of `memfd`, in this order. It shares the pages of the file:
    /// writes through one are visible in the other. The pages stay in the dma-buf until it is
    /// freed, even if the file returns them.
    ///
    /// # Errors
    /// `EINVAL` if a range is not page-aligned or beyond the file, if there are no ranges or more
    /// than the limit, or if the file lacks the seal against shrinking; `ENOMEM`, `EMFILE` if
    /// memory or descriptors have run out.
    pub fn create(&self, memfd: impl AsFd, ranges: &[Range<u64>]) -> io::Result<OwnedFd> {
        let list = encode(memfd.as_fd().as_raw_fd().cast_unsigned(), ranges)?;
        // SAFETY: the kernel reads the header and the number of items in it, all inside `list`, in
        // which `encode` has laid out the kernel's structures; it writes nothing there.
        let fd = unsafe { udmabuf_create_list(self.0.as_raw_fd(), list.as_ptr()) }?;
        // SAFETY: success returns a new descriptor that no other code knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Returns `struct udmabuf_create_list` with its items, in words: flags and count, then file and
/// padding, offset, size of each.
fn encode(memfd: u32, ranges: &[Range<u64>]) -> io::Result<Vec<u64>> {
    let count = u32::try_from(ranges.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut words = Vec::with_capacity(1 + 3 * ranges.len());
    words.push(pair(UDMABUF_FLAGS_CLOEXEC, count));
    for range in ranges {
        words.extend([pair(memfd, 0), range.start, range.end.saturating_sub(range.start)]);
    }
    Ok(words)
}

/// Returns two 32-bit fields in memory order, for any byte order of the machine.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Returns the module's limits; if it shows none, the built-in limits of kernels before 5.15.
pub fn limits() -> Limits {
    limits_at(Path::new(PARAMETERS))
}

/// Before Linux 6.15 the driver computes the limit in bytes as an `int`: with one MiB more, it
/// would refuse all buffers.
const MOST_MEBIBYTES: u64 = 2047;

/// The driver copies a list into one allocation of at most 4 MiB; this many items take 1.5 MiB.
const MOST_RANGES: u64 = 1 << 16;

/// Raises the driver's limits for all users: buffers of up to `wanted.bytes` bytes, rounded up to
/// MiB and at most 2047 MiB, of up to `wanted.ranges` ranges, at most 65,536. Never lowers a limit.
///
/// # Errors
/// As writing the module's parameters: only root may, and kernels before 5.15 have none.
pub fn raise_limits(wanted: Limits) -> io::Result<()> {
    raise_limits_at(Path::new(PARAMETERS), wanted)
}

fn raise_limits_at(parameters: &Path, wanted: Limits) -> io::Result<()> {
    let (now, mebibytes) = (limits_at(parameters), wanted.bytes.div_ceil(1 << 20).min(MOST_MEBIBYTES));
    let raise = |name: &str, now: u64, to: u64| {
        if to > now { std::fs::write(parameters.join(name), to.to_string()) } else { Ok(()) }
    };
    let bytes = raise("size_limit_mb", now.bytes >> 20, mebibytes);
    bytes.and(raise("list_limit", now.ranges, wanted.ranges.min(MOST_RANGES)))
}

fn limits_at(parameters: &Path) -> Limits {
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(parameters.join(name)).ok()?.trim().parse().ok()
    };
    Limits {
        ranges: read("list_limit").unwrap_or(1024),
        bytes: read("size_limit_mb").unwrap_or(64).saturating_mul(1 << 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_the_kernels_layout() {
        let words = encode(7, &[4096..8192, 0..4096]).expect("small");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes.len(), 8 + 2 * 24);
        let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!([field(0), field(4), field(8), field(12)], [1, 2, 7, 0]);
        assert_eq!(words[2..4], [4096, 4096]);
        assert_eq!(words[5..7], [0, 4096]);
    }

    #[test]
    fn limits_come_from_the_module_where_it_shows_them() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(limits_at(directory.path()), Limits { ranges: 1024, bytes: 64 << 20 });
        std::fs::write(directory.path().join("size_limit_mb"), "256\n").expect("written");
        std::fs::write(directory.path().join("list_limit"), "16\n").expect("written");
        assert_eq!(limits_at(directory.path()), Limits { ranges: 16, bytes: 256 << 20 });
    }

    #[test]
    fn limits_are_raised_as_far_as_the_driver_can_bear_and_never_lowered() {
        let directory = tempfile::tempdir().expect("a directory");
        let raised = |ranges, bytes| {
            raise_limits_at(directory.path(), Limits { ranges, bytes }).expect("written");
            let Limits { ranges, bytes } = limits_at(directory.path());
            (ranges, bytes >> 20)
        };
        assert_eq!(raised(4096, (100 << 20) + 1), (4096, 101));
        assert_eq!(raised(16, 1 << 20), (4096, 101));
        assert_eq!(raised(u64::MAX, u64::MAX), (1 << 16, 2047));
        assert_eq!(raised(1, 1), (1 << 16, 2047));
    }
}
