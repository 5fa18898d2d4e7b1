// SPDX-License-Identifier: Apache-2.0
//! Tests the descriptors that a caller gets: sealed, close-on-exec, of the reported size, and
//! shared.

use crate::child::ChildProcess;
use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, Backing};
use crate::request::{Held, from_any, from_heap};
use crate::sys::{Mapping, receive_descriptor, send_descriptor};
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::libc::off_t;
use nix::unistd::{Whence, ftruncate, lseek};
use std::fs::File;
use std::os::unix::net::UnixStream;

tests![
    Shared descriptors_are_close_on_exec,
    Shared file_has_the_size_of_the_reply,
    Shared memfd_is_sealed_against_resizing,
    Shared size_cannot_be_changed,
    Shared reply_names_the_heap_and_backing,
    Shared writes_show_in_a_second_mapping,
    Shared writes_show_in_another_process,
    Shared descriptor_works_when_passed_over_a_socket,
];

/// Returns two buffers of every usable heap, because only a later one may be a reused one.
fn samples(fixture: &Fixture) -> Result<Vec<Held>> {
    let mut buffers = Vec::new();
    for heap in fixture.usable() {
        buffers.extend(fixture.allocate(&AllocationRequest { count: 2, ..from_heap(heap.id, 1) })?);
    }
    Ok(buffers)
}

fn descriptors_are_close_on_exec(fixture: &Fixture) -> Result<()> {
    for buffer in samples(fixture)? {
        let flags = FdFlag::from_bits_retain(fcntl(&buffer.fd, FcntlArg::F_GETFD)?);
        ensure!(flags.contains(FdFlag::FD_CLOEXEC), "a buffer of heap {} survives exec", buffer.heap_name);
    }
    Ok(())
}

fn file_has_the_size_of_the_reply(fixture: &Fixture) -> Result<()> {
    for buffer in samples(fixture)? {
        let heap = &buffer.heap_name;
        check_eq!(
            u64::try_from(lseek(&buffer.fd, 0, Whence::SeekEnd)?)?,
            buffer.size,
            "end of a buffer of {heap}"
        );
        if buffer.backing != Backing::ASHMEM {
            let size = File::from(buffer.fd.try_clone()?).metadata()?.len();
            check_eq!(size, buffer.size, "st_size of a buffer of {heap}");
        }
    }
    Ok(())
}

fn memfd_is_sealed_against_resizing(fixture: &Fixture) -> Result<()> {
    let memfds: Vec<_> = samples(fixture)?
        .into_iter()
        .filter(|buffer| [Backing::MEMFD, Backing::HUGETLB].contains(&buffer.backing))
        .collect();
    for buffer in &memfds {
        let seals = SealFlag::from_bits_retain(fcntl(&buffer.fd, FcntlArg::F_GET_SEALS)?);
        let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        ensure!(seals.contains(wanted), "seals of a buffer of heap {} are {seals:?}", buffer.heap_name);
    }
    if memfds.is_empty() { inapplicable("no usable heap gives memfds") } else { Ok(()) }
}

fn size_cannot_be_changed(fixture: &Fixture) -> Result<()> {
    for buffer in samples(fixture)? {
        let size = off_t::try_from(buffer.size)?;
        for length in [0, size - 1, size + 1, size * 2] {
            ensure!(
                ftruncate(&buffer.fd, length).is_err(),
                "a buffer of {size} bytes was truncated to {length}"
            );
        }
        check_eq!(lseek(&buffer.fd, 0, Whence::SeekEnd)?, size, "size after refused truncations");
    }
    Ok(())
}

fn reply_names_the_heap_and_backing(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        check_eq!(
            (buffer.heap_id, &buffer.heap_name, buffer.backing),
            (heap.id, &heap.name, heap.backing),
            "heap and backing"
        );
    }
    Ok(())
}

fn writes_show_in_a_second_mapping(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        let writer = Mapping::writable(&buffer.fd, buffer.size)?;
        let reader = Mapping::read_only(&buffer.fd, buffer.size)?;
        let last = writer.words() - 1;
        for index in [0, last / 2, last] {
            writer.store(index, 0x5eed + index as u64);
            check_eq!(reader.load(index), 0x5eed + index as u64, "word {index} of a buffer of {}", heap.name);
        }
    }
    Ok(())
}

fn writes_show_in_another_process(fixture: &Fixture) -> Result<()> {
    let (ours, theirs) = (0x0123_4567_89ab_cdef_u64, 0xfeed_face_u64);
    for heap in fixture.mappable()? {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
        mapping.fill(ours);
        let arguments = [buffer.size.to_string(), ours.to_string(), theirs.to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        ChildProcess::start("exchange", &arguments, Some(buffer.fd.try_clone()?))?.finish()?;
        check_eq!(mapping.first_other_than(theirs), None, "first word that the child did not change");
    }
    Ok(())
}

fn descriptor_works_when_passed_over_a_socket(fixture: &Fixture) -> Result<()> {
    let buffer = fixture.allocate_one(&from_any(1))?;
    let (here, there) = UnixStream::pair()?;
    send_descriptor(&here, &buffer.fd)?;
    Mapping::writable(&buffer.fd, buffer.size)?.fill(7);
    let (id, size) = (buffer.id, buffer.size);
    drop(buffer);
    let passed = receive_descriptor(&there)?;
    let mapping = Mapping::read_only(&passed, size)?;
    check_eq!(mapping.first_other_than(7), None, "first word that was lost on the way");
    let info = fixture
        .service
        .describe(&ParcelFileDescriptor::new(passed))
        .context("describe of a passed descriptor")?;
    check_eq!(info.id, id, "id of a passed descriptor");
    Ok(())
}
