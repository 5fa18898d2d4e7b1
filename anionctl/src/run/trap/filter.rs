// SPDX-License-Identifier: Apache-2.0
//! Builds the seccomp filter that selects the trapped system calls.
//!
//! The filter sees numbers and arguments, but not the memory that arguments point to. So it traps
//! every call with a path, every `fstat`, and every `ioctl` whose request has the type of the
//! device nodes. Other devices have requests of these types, too; the kernel answers those.

use libc::{seccomp_data, sock_filter};
use std::ffi::c_long;
use std::mem::offset_of;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Calls that are trapped with any arguments, beside those of [`OF_OLD`].
const ALWAYS: [c_long; 9] = [
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_openat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
];

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OF_OLD: &[c_long] =
    &[libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink];
#[cfg(target_arch = "aarch64")]
const OF_OLD: &[c_long] = &[];

/// The types of the requests of ION and dma-heaps: bits 8 to 15 of their numbers.
const TYPES: [u8; 2] = [b'I', b'H'];

const fn load(offset: usize) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn end(action: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action as usize, 0, 0)
}

/// Compares the loaded value, and skips the number of instructions for that result.
const fn compare(with: usize, if_equal: u8, otherwise: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, with, if_equal, otherwise)
}

#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits; numbers of calls and offsets 32")]
const fn instruction(code: u32, k: usize, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k: k as u32 }
}

/// Returns the filter. Programs of other architectures, 32-bit ones included, are not trapped.
pub(super) fn program() -> Vec<sock_filter> {
    // The low half of the second argument, which the kernel uses as the request's number.
    let low_half = if cfg!(target_endian = "big") { size_of::<u32>() } else { 0 };
    let request = offset_of!(seccomp_data, args) + size_of::<u64>() + low_half;
    let call = |number: c_long| usize::try_from(number).unwrap_or(usize::MAX);
    let mut program = vec![
        load(offset_of!(seccomp_data, arch)),
        compare(ARCHITECTURE as usize, 1, 0),
        end(libc::SECCOMP_RET_ALLOW),
        load(offset_of!(seccomp_data, nr)),
    ];
    for number in ALWAYS.iter().chain(OF_OLD) {
        program.push(compare(call(*number), 0, 1));
        program.push(end(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.extend([
        compare(call(libc::SYS_ioctl), 1, 0),
        end(libc::SECCOMP_RET_ALLOW),
        load(request),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xff00, 0, 0),
    ]);
    for kind in TYPES {
        program.push(compare(usize::from(kind) << 8, 0, 1));
        program.push(end(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::super::calls::decode;
    use super::*;

    /// Returns the filter's action for a call with this second argument.
    fn action(architecture: u32, number: u32, second: u32) -> u32 {
        let (program, mut place, mut loaded) = (program(), 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[place];
            place += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = match k {
                        0 => number,
                        4 => architecture,
                        24 => second,
                        _ => panic!("offset {k}"),
                    };
                }
                code if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => loaded &= k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    place += usize::from(if loaded == k { jt } else { jf });
                }
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                code => panic!("code {code}"),
            }
        }
    }

    #[test]
    fn exactly_the_calls_that_can_be_answered_are_trapped() {
        for number in 0..1000 {
            let is_known = decode(c_long::from(number), &[0; 6]).is_some();
            let of_a_node = action(ARCHITECTURE, number, 0xc018_4900);
            assert_eq!(of_a_node == libc::SECCOMP_RET_USER_NOTIF, is_known, "{number}");
            assert_eq!(action(ARCHITECTURE ^ 1, number, 0xc018_4900), libc::SECCOMP_RET_ALLOW);
            // Calls of the x32 interface have one more bit.
            assert_eq!(action(ARCHITECTURE, number | 1 << 30, 0xc018_4900), libc::SECCOMP_RET_ALLOW);
        }
        let ioctl = u32::try_from(libc::SYS_ioctl).expect("a number");
        for (request, expected) in [
            (0xc018_4800, libc::SECCOMP_RET_USER_NOTIF),
            (0x4004_4901, libc::SECCOMP_RET_USER_NOTIF),
            (0x5401, libc::SECCOMP_RET_ALLOW),
            (0x4008_6200, libc::SECCOMP_RET_ALLOW),
        ] {
            assert_eq!(action(ARCHITECTURE, ioctl, request), expected, "{request:#x}");
        }
    }
}
