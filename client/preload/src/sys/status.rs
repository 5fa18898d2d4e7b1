// SPDX-License-Identifier: Apache-2.0
//! Structures of stat(2) and related functions.

use anion_nodes::{LENGTH, NodeStatus};
use std::marker::PhantomData;

/// The program's memory for a `struct stat`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Stat<'a>(*mut libc::stat, PhantomData<&'a mut libc::stat>);

/// The program's memory for a `struct stat64`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Stat64<'a>(*mut libc::stat64, PhantomData<&'a mut libc::stat64>);

/// The program's memory for a `struct statx`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Statx<'a>(*mut libc::statx, PhantomData<&'a mut libc::statx>);

/// A structure of one of these kinds that a call has just filled in.
pub(crate) trait Status: Copy {
    /// Returns whether its file may be an open node.
    fn may_be_node(self) -> bool;

    /// Changes it to that of a node; fields that nodes do not define stay, such as times.
    fn show(self, status: NodeStatus);
}

/// Implements [`Status`] for the two structures with the same fields.
macro_rules! status {
    ($type:ident) => {
        impl Status for $type<'_> {
            fn may_be_node(self) -> bool {
                // SAFETY: values come from C alone (the field is private), and the C library's
                // function has filled the structure in completely.
                let status = unsafe { &*self.0 };
                let is_file = status.st_mode & libc::S_IFMT == libc::S_IFREG;
                is_file && usize::try_from(status.st_size) == Ok(LENGTH)
            }

            fn show(self, node: NodeStatus) {
                // SAFETY: as above; nothing else refers to the structure during the call.
                let status = unsafe { &mut *self.0 };
                status.st_mode = node.mode;
                status.st_rdev = node.rdev;
                status.st_ino = node.inode.into();
                status.st_nlink = 1;
                status.st_uid = 0;
                status.st_gid = 0;
                status.st_size = 0;
                status.st_blocks = 0;
            }
        }
    };
}

status!(Stat);
status!(Stat64);

impl Status for Statx<'_> {
    fn may_be_node(self) -> bool {
        // SAFETY: values come from C alone (the field is private), and the C library's function has
        // filled the structure in completely.
        let status = unsafe { &*self.0 };
        let is_file = libc::mode_t::from(status.stx_mode) & libc::S_IFMT == libc::S_IFREG;
        is_file && usize::try_from(status.stx_size) == Ok(LENGTH)
    }

    fn show(self, node: NodeStatus) {
        // SAFETY: as above; nothing else refers to the structure during the call.
        let status = unsafe { &mut *self.0 };
        // Types and permissions have 16 bits.
        status.stx_mode = u16::try_from(node.mode).unwrap_or(0);
        status.stx_rdev_major = libc::major(node.rdev);
        status.stx_rdev_minor = libc::minor(node.rdev);
        status.stx_ino = node.inode;
        status.stx_nlink = 1;
        status.stx_uid = 0;
        status.stx_gid = 0;
        status.stx_size = 0;
        status.stx_blocks = 0;
    }
}
