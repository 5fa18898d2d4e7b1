// SPDX-License-Identifier: Apache-2.0
//! Clients that pretend to release a buffer: while any kind of reference reaches its memory, no
//! other client gets it. `tests/heirs.rs` tests a child process that inherited a descriptor: until
//! a child runs its program, it holds the descriptors of all tests of the process.

use super::pool::{pooled, settle_and_scrub, stats, system, use_up};
use super::*;
use crate::sys::fd::{DescriptorDirectory, inode};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::any::Any;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// A client's remaining reference to a buffer.
type Kept = Box<dyn Any>;
/// A way to keep a reference.
type Way = fn(OwnedFd) -> Kept;

/// Leaves the descriptor in the receive queue of a socket.
fn in_a_socket_queue(fd: OwnedFd) -> Kept {
    let (left, right) = UnixStream::pair().expect("sockets");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&left, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).expect("sent");
    Box::new((left, right))
}

fn by_a_description_for_reading(fd: OwnedFd) -> Kept {
    Box::new(DescriptorDirectory::open().expect("/proc").reopen(&fd, Access::ReadOnly).expect("own uid"))
}

fn by_a_mapping_for_reading(fd: OwnedFd) -> Kept {
    Box::new(SharedMap::new(&fd, 1 << 20, Access::ReadOnly).expect("mapped"))
}

fn by_copies(fd: OwnedFd) -> Kept {
    Box::new(fd.try_clone().expect("dup"))
}

#[test]
fn a_buffer_that_a_client_still_reaches_is_not_handed_out_again() {
    let ways: [(&str, Way); 4] = [
        ("in a socket's queue", in_a_socket_queue),
        ("by a description for reading", by_a_description_for_reading),
        ("by a mapping for reading", by_a_mapping_for_reading),
        ("by copies", by_copies),
    ];
    for (way, keep) in ways {
        let allocator = still(pooled());
        let one = || allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
        let grant = one();
        let file = inode(&grant.fd).expect("inode");
        std::fs::File::from(grant.fd.try_clone().expect("dup")).write_all(&[0x11; 1 << 20]).expect("written");
        let kept = keep(grant.fd);
        settle_and_scrub(&allocator, 1);
        assert_eq!(stats(&allocator).counters.frees, 0, "released although kept {way}");
        assert_ne!(inode(&one().fd).expect("inode"), file, "handed out although kept {way}");

        drop(kept);
        settle_and_scrub(&allocator, 1);
        let again = one();
        assert_eq!(inode(&again.fd).expect("inode"), file, "not recycled after it was kept {way}");
        let clean = SharedMap::new(&again.fd, 1 << 20, Access::ReadOnly).expect("mapped").is_zero();
        assert!(clean, "dirty after it was kept {way}");
    }
}

#[test]
fn a_consumer_cannot_seal_what_others_share_and_the_buffer_is_used_again() {
    let allocator = still(pooled());
    let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    let file = inode(&grant.fd).expect("inode");
    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE, SealFlag::F_SEAL_SEAL] {
        let refused = fcntl(&grant.fd, FcntlArg::F_ADD_SEALS(seal));
        assert_eq!(refused, Err(Errno::EPERM), "{seal:?}");
    }
    use_up(grant);
    settle_and_scrub(&allocator, 1);
    let again = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    assert_eq!(inode(&again.fd).expect("inode"), file, "it comes from the pool");
    let sealed = fcntl(&again.fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE));
    assert_eq!(sealed, Err(Errno::EPERM));
    SharedMap::new(&again.fd, 1 << 20, Access::ReadWrite).expect("its producer maps it");
}
