// SPDX-License-Identifier: Apache-2.0
//! Fills the structures of stat(2), statx(2) and getdents64(2) for device nodes.

use anion_nodes::NodeStatus;
use std::mem::offset_of;

/// The block size in these structures, in bytes.
const BLOCK: u32 = 4096;

/// Writes bytes at an offset; both are those of a structure's field.
fn put(structure: &mut [u8], offset: usize, field: &[u8]) {
    structure[offset..offset + field.len()].copy_from_slice(field);
}

/// Writes a number with the offset and the width of a field.
macro_rules! set {
    ($bytes:ident, $structure:ty, $field:ident, $kind:ty, $value:expr) => {
        put(
            &mut $bytes,
            offset_of!($structure, $field),
            &<$kind>::try_from($value).unwrap_or_default().to_ne_bytes(),
        );
    };
}

/// Returns `struct stat` of a node that belongs to root.
pub(super) fn stat(status: NodeStatus) -> [u8; size_of::<libc::stat>()] {
    let mut bytes = [0; size_of::<libc::stat>()];
    set!(bytes, libc::stat, st_ino, libc::ino_t, status.inode);
    set!(bytes, libc::stat, st_nlink, libc::nlink_t, 1_u8);
    set!(bytes, libc::stat, st_mode, libc::mode_t, status.mode);
    set!(bytes, libc::stat, st_rdev, libc::dev_t, status.rdev);
    set!(bytes, libc::stat, st_blksize, libc::blksize_t, BLOCK);
    bytes
}

/// Returns `struct statx` of a node that belongs to root.
pub(super) fn statx(status: NodeStatus) -> [u8; size_of::<libc::statx>()] {
    let mut bytes = [0; size_of::<libc::statx>()];
    set!(bytes, libc::statx, stx_mask, u32, libc::STATX_BASIC_STATS);
    set!(bytes, libc::statx, stx_blksize, u32, BLOCK);
    set!(bytes, libc::statx, stx_nlink, u32, 1_u8);
    set!(bytes, libc::statx, stx_mode, u16, status.mode);
    set!(bytes, libc::statx, stx_ino, u64, status.inode);
    set!(bytes, libc::statx, stx_rdev_major, u32, libc::major(status.rdev));
    set!(bytes, libc::statx, stx_rdev_minor, u32, libc::minor(status.rdev));
    bytes
}

/// An entry of a directory.
pub(super) struct Entry<'a> {
    /// Its name.
    pub(super) name: &'a [u8],
    /// Its inode.
    pub(super) inode: u64,
    /// It is a directory, not a device.
    pub(super) is_directory: bool,
}

/// Returns as many `struct linux_dirent64` as fit in `room` bytes, beginning with the entry of
/// number `from`, and their count.
pub(super) fn records(entries: &[Entry<'_>], from: usize, room: usize) -> (Vec<u8>, usize) {
    let mut records = Vec::new();
    let mut count = 0;
    for (number, entry) in entries.iter().enumerate().skip(from) {
        // Inode, offset of the next entry, length, type, name with a NUL; a multiple of 8 bytes.
        let length = (8 + 8 + 2 + 1 + entry.name.len() + 1).next_multiple_of(8);
        let Ok(short) = u16::try_from(length) else { continue };
        if records.len() + length > room {
            break;
        }
        let start = records.len();
        records.resize(start + length, 0);
        let record = &mut records[start..];
        put(record, 0, &entry.inode.to_ne_bytes());
        put(record, 8, &(number as u64 + 1).to_ne_bytes());
        put(record, 16, &short.to_ne_bytes());
        record[18] = if entry.is_directory { libc::DT_DIR } else { libc::DT_CHR };
        put(record, 19, entry.name);
        count += 1;
    }
    (records, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_continue_where_the_room_ended() {
        let entry = |name| Entry { name, inode: 7, is_directory: name == b"." };
        let entries = [entry(b"."), entry(b"camera"), entry(b"a")];
        let (first, count) = records(&entries, 0, 60);
        assert_eq!((first.len(), count), (24 + 32, 2));
        assert_eq!((first[18], first[24 + 18]), (libc::DT_DIR, libc::DT_CHR));
        assert_eq!(&first[24 + 19..24 + 26], b"camera\0");
        let (rest, count) = records(&entries, 2, 60);
        assert_eq!((rest.len(), count), (24, 1));
        assert_eq!(records(&entries, 3, 60), (Vec::new(), 0));
        assert_eq!(records(&entries, 0, 20), (Vec::new(), 0));
    }
}
