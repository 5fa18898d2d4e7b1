// SPDX-License-Identifier: Apache-2.0
//! Decodes trapped system calls.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

/// A file in a call: a path, a descriptor with a path relative to it, or a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// The start of a relative path; `AT_FDCWD` is the working directory.
    pub(super) directory: RawFd,
    /// The address of the path.
    pub(super) path: u64,
    /// If the path is empty, the file is `directory` itself.
    pub(super) may_be_empty: bool,
}

/// A call, with the addresses of the memory that it reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Opens a file with these flags.
    Open(Named, Flags),
    /// Fills a `struct stat`.
    Stat(Named, u64),
    /// Fills a `struct statx`.
    Statx(Named, u64),
    /// Checks these of `R_OK`, `W_OK` and `X_OK`.
    Access(Named, c_int),
    /// Reads a symbolic link.
    ReadLink(Named),
    /// Reads the entries of a directory.
    Entries { directory: RawFd, into: u64, room: usize },
    /// Sends a request to a device.
    Request { device: RawFd, number: u32, argument: u64 },
}

/// Flags of open(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    /// The flags themselves.
    Given(c_int),
    /// The first 64 bits of the `struct open_how` at this address.
    At(u64),
}

/// Decodes the call of this number; `None` for calls that the filter does not trap.
pub(super) fn decode(number: c_long, arguments: &[u64; 6]) -> Option<Call> {
    let [first, second, third, fourth, fifth, _] = *arguments;
    #[cfg(target_arch = "x86_64")]
    let here = |path| Named { directory: libc::AT_FDCWD, path, may_be_empty: false };
    let below = |may_be_empty| Named { directory: int(first), path: second, may_be_empty };
    let empty = |flags| int(flags) & libc::AT_EMPTY_PATH != 0;
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_open => return Some(Call::Open(here(first), Flags::Given(int(second)))),
        libc::SYS_creat => {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            return Some(Call::Open(here(first), Flags::Given(flags)));
        }
        libc::SYS_stat | libc::SYS_lstat => return Some(Call::Stat(here(first), second)),
        libc::SYS_access => return Some(Call::Access(here(first), int(second))),
        libc::SYS_readlink => return Some(Call::ReadLink(here(first))),
        _ => {}
    }
    let call = match number {
        libc::SYS_openat => Call::Open(below(false), Flags::Given(int(third))),
        libc::SYS_openat2 => Call::Open(below(false), Flags::At(third)),
        libc::SYS_fstat => Call::Stat(Named { path: 0, ..below(true) }, second),
        libc::SYS_newfstatat => Call::Stat(below(empty(fourth)), third),
        libc::SYS_statx => Call::Statx(below(empty(third)), fifth),
        libc::SYS_faccessat => Call::Access(below(false), int(third)),
        libc::SYS_faccessat2 => Call::Access(below(empty(fourth)), int(third)),
        libc::SYS_readlinkat => Call::ReadLink(below(true)),
        libc::SYS_getdents64 => Call::Entries {
            directory: int(first),
            into: second,
            room: usize::try_from(third).unwrap_or(usize::MAX),
        },
        libc::SYS_ioctl => Call::Request { device: int(first), number: low(second), argument: third },
        _ => return None,
    };
    Some(call)
}

/// Returns the half of a register that the kernel reads as an `int`.
fn int(register: u64) -> c_int {
    low(register).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "as the kernel takes it")]
fn low(register: u64) -> u32 {
    register as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_as_the_kernel_takes_them() {
        let arguments = [u64::from(u32::MAX - 99), 0x1000, 0x2000, 0x1000, 0x3000, 0];
        let named = Named { directory: libc::AT_FDCWD, path: 0x1000, may_be_empty: false };
        let of = |number| decode(number, &arguments);
        assert_eq!(of(libc::SYS_openat), Some(Call::Open(named, Flags::Given(0x2000))));
        assert_eq!(of(libc::SYS_openat2), Some(Call::Open(named, Flags::At(0x2000))));
        let by_descriptor = Named { may_be_empty: true, ..named };
        assert_eq!(of(libc::SYS_newfstatat), Some(Call::Stat(by_descriptor, 0x2000)));
        assert_eq!(of(libc::SYS_statx), Some(Call::Statx(named, 0x3000)));
        let of_descriptor = Named { path: 0, ..by_descriptor };
        assert_eq!(of(libc::SYS_fstat), Some(Call::Stat(of_descriptor, 0x1000)));
        assert_eq!(of(libc::SYS_close), None);
        // The kernel ignores bits above an int, and programs may set them.
        let request = decode(libc::SYS_ioctl, &[7 | 1 << 40, 0xc018_4800 | 1 << 40, 9, 0, 0, 0]);
        assert_eq!(request, Some(Call::Request { device: 7, number: 0xc018_4800, argument: 9 }));
    }
}
