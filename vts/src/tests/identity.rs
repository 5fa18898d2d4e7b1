// SPDX-License-Identifier: Apache-2.0
//! Tests `describe`: it identifies a buffer by its file.

use crate::child::ChildProcess;
use crate::harness::Fixture;
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::{Access, AllocationRequest, Backing, BufferInfo, ErrorCode, HeapFlags};
use crate::request::{Held, from_any, from_heap};
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

tests![
    Shared describe_tells_everything_about_a_buffer,
    Shared duplicate_and_read_only_descriptors_are_recognised,
    Shared child_that_inherited_a_buffer_learns_its_owner,
    Shared age_grows_from_the_allocation,
    Shared strangers_files_are_not_ours,
    Shared file_with_a_buffers_inode_number_is_not_ours,
    Shared reused_memory_has_a_new_identity,
    Quiet describe_closes_its_copy,
    Quiet describe_does_not_hold_the_buffer,
];

fn describe(fixture: &Fixture, fd: &OwnedFd) -> Result<BufferInfo> {
    Ok(fixture.service.describe(&ParcelFileDescriptor::new(fd.try_clone()?))?)
}

fn inode(buffer: &Held) -> Result<u64> {
    Ok(File::from(buffer.fd.try_clone()?).metadata()?.ino())
}

fn describe_tells_everything_about_a_buffer(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let start = Instant::now();
        let request = AllocationRequest { name: "vts identity".into(), count: 2, ..from_heap(heap.id, 1) };
        for buffer in fixture.allocate(&request)? {
            let info = describe(fixture, &buffer.fd)?;
            check_eq!(
                (info.id, info.size, info.heapId, &info.heapName, info.backing),
                (buffer.id, i64::try_from(buffer.size)?, heap.id, &heap.name, heap.backing),
                "id, size, heap and backing"
            );
            check_eq!(info.ownerUid.cast_unsigned(), fixture.uid, "owner's uid");
            check_eq!(info.ownerPid.cast_unsigned(), std::process::id(), "owner's pid");
            check_eq!(info.name, request.name, "label");
            // fstat of an ashmem region returns the device's values.
            if buffer.backing != Backing::ASHMEM {
                check_eq!(info.inode.cast_unsigned(), inode(&buffer)?, "inode");
            }
            let age = Duration::from_millis(u64::try_from(info.ageMs)?);
            ensure!(age <= start.elapsed(), "{age:?} old, but asked for {:?} ago", start.elapsed());
        }
    }
    Ok(())
}

fn duplicate_and_read_only_descriptors_are_recognised(fixture: &Fixture) -> Result<()> {
    for heap in fixture.reported() {
        let accesses = [Access::READ_WRITE, Access::READ_ONLY];
        let given = if heap.flags & HeapFlags::READ_ONLY.0 != 0 { &accesses[..] } else { &accesses[..1] };
        for &access in given {
            let buffer = fixture.allocate_one(&AllocationRequest { access, ..from_heap(heap.id, 1) })?;
            let duplicate = buffer.fd.try_clone()?;
            let id = buffer.id;
            drop(buffer);
            check_eq!(
                describe(fixture, &duplicate)?.id,
                id,
                "id by a duplicate, {access:?}, heap {}",
                heap.name
            );
        }
    }
    Ok(())
}

fn child_that_inherited_a_buffer_learns_its_owner(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    let endpoint = fixture.target.to_string();
    let mut child = ChildProcess::start("describe", &[&endpoint], Some(buffer.fd.try_clone()?))?;
    let owner = format!("{} {} {}", buffer.id, fixture.uid, std::process::id());
    check_eq!(child.line()?, owner, "id, uid and pid that the child was told");
    child.finish()
}

fn age_grows_from_the_allocation(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    let (first, start) = (describe(fixture, &buffer.fd)?.ageMs, Instant::now());
    std::thread::sleep(Duration::from_millis(60));
    let second = describe(fixture, &buffer.fd)?.ageMs;
    // Rounding may lose one millisecond.
    ensure!(second - first >= 59, "the age went from {first} to {second} ms in {:?}", start.elapsed());
    Ok(())
}

fn strangers_files_are_not_ours(fixture: &Fixture) -> Result<()> {
    let memfd = || -> Result<OwnedFd> {
        let fd = memfd_create("anion", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, 65536)?;
        Ok(fd)
    };
    let sealed = memfd()?;
    fcntl(&sealed, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))?;
    let (reader, writer) = std::io::pipe()?;
    let (socket, _peer) = UnixStream::pair()?;
    let strangers: [(&str, OwnedFd); 8] = [
        ("a memfd of the caller", memfd()?),
        ("a memfd of the caller with a buffer's seals", sealed),
        ("a pipe's reading end", reader.into()),
        ("a pipe's writing end", writer.into()),
        ("a socket", socket.into()),
        ("a regular file", File::open(std::env::current_exe()?)?.into()),
        ("a directory", File::open("/")?.into()),
        ("a device", File::open("/dev/null")?.into()),
    ];
    for (what, fd) in strangers {
        expect_error(fixture.service.describe(&ParcelFileDescriptor::new(fd)), &[ErrorCode::NOT_OURS])
            .with_context(|| format!("describe of {what}"))?;
    }
    Ok(())
}

/// Inode numbers are unique only within a file system: a file of another one with a buffer's number
/// is no buffer.
fn file_with_a_buffers_inode_number_is_not_ours(fixture: &Fixture) -> Result<()> {
    let buffers = fixture.allocate(&AllocationRequest { count: 16, ..from_any(1) })?;
    let inodes = buffers.iter().map(inode).collect::<Result<HashSet<_>>>()?;
    let directories = ["/dev/shm".into(), std::env::temp_dir(), "/run".into()];
    let Some(file) = directories.iter().find_map(|directory| file_with_inode(directory, &inodes)) else {
        return inapplicable("no file system here lets this uid reach the inode number of a buffer");
    };
    expect_error(fixture.service.describe(&ParcelFileDescriptor::new(file)), &[ErrorCode::NOT_OURS])
        .context("describe of another file system's file, whose inode number a buffer has too")?;
    Ok(())
}

/// Returns a new, unlinked file with one of these inode numbers. A tmpfs numbers its files in
/// sequence, so the function creates and removes files until it reaches one, if other processes
/// have not created too many.
fn file_with_inode(directory: &Path, inodes: &HashSet<u64>) -> Option<File> {
    const MOST_FILES: usize = 50_000;
    let path = directory.join(format!("anion-vts-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut last = 0;
    for _ in 0..MOST_FILES {
        let file = File::create_new(&path).ok()?;
        fs::remove_file(&path).ok()?;
        let number = file.metadata().ok()?.ino();
        if inodes.contains(&number) {
            return Some(file);
        }
        if number <= last || inodes.iter().all(|inode| *inode < number) {
            return None;
        }
        last = number;
    }
    None
}

fn reused_memory_has_a_new_identity(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let mut ids = HashSet::new();
    for _ in 0..32 {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 128 << 10))?;
        ensure!(ids.insert(buffer.id), "id {} was given twice", buffer.id);
        check_eq!(
            describe(fixture, &buffer.fd)?.id,
            buffer.id,
            "id by the file of a buffer that may be reused"
        );
    }
    Ok(())
}

/// Runs alone, because a child of another test has copies of all descriptors for a moment. After
/// the answer, only this process has the writing end. When that is closed too, the reader must see
/// the end at once.
fn describe_closes_its_copy(fixture: &Fixture) -> Result<()> {
    for _ in 0..16 {
        let (reader, writer) = std::io::pipe()?;
        expect_error(
            fixture.service.describe(&ParcelFileDescriptor::new(OwnedFd::from(writer))),
            &[ErrorCode::NOT_OURS],
        )?;
        let mut events = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        poll(&mut events, PollTimeout::ZERO)?;
        ensure!(
            events[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)),
            "the service still has a copy of the descriptor after its answer"
        );
    }
    Ok(())
}

fn describe_does_not_hold_the_buffer(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    for _ in 0..16 {
        describe(fixture, &buffer.fd)?;
    }
    drop(buffer);
    fixture.await_holding(0, 0)
}
