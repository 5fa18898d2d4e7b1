// SPDX-License-Identifier: Apache-2.0
//! Tests read-only descriptors: the kernel refuses writes through them, and other uids cannot open
//! them again for writing.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{Access, AllocationRequest, Backing, ErrorCode, HeapFlags};
use crate::request::{Held, from_heap};
use crate::sys::{Mapping, punch_hole};
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc::off_t;
use nix::sys::stat::{Mode, fchmod};
use nix::sys::uio::pwrite;
use nix::unistd::{ftruncate, write};
use std::os::fd::{AsRawFd, OwnedFd};

tests![
    Shared read_only_buffer_can_be_read,
    Shared read_only_buffer_cannot_be_written,
    Shared read_only_buffer_cannot_be_mapped_for_writing,
    Shared read_only_buffer_cannot_be_reopened_for_writing_by_another_uid,
    Shared mode_cannot_be_changed_by_another_uid,
    Shared read_write_buffer_can_be_written,
    Shared heap_without_read_only_buffers_refuses_them,
];

fn read_only(fixture: &Fixture) -> Result<Vec<Held>> {
    let request = |id| AllocationRequest { access: Access::READ_ONLY, ..from_heap(id, 1) };
    fixture.with_read_only()?.iter().map(|heap| fixture.allocate_one(&request(heap.id))).collect()
}

fn access_mode(fd: &OwnedFd) -> Result<OFlag> {
    Ok(OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE)
}

fn read_only_buffer_can_be_read(fixture: &Fixture) -> Result<()> {
    for buffer in read_only(fixture)? {
        // All descriptors of an ashmem region share the region's access.
        if buffer.backing != Backing::ASHMEM {
            let heap = &buffer.heap_name;
            check_eq!(access_mode(&buffer.fd)?, OFlag::O_RDONLY, "access mode of a buffer of {heap}");
        }
        let mapping = Mapping::read_only(&buffer.fd, buffer.size)?;
        check_eq!(mapping.first_other_than(0), None, "first word that is not zero");
    }
    Ok(())
}

fn read_only_buffer_cannot_be_written(fixture: &Fixture) -> Result<()> {
    for buffer in read_only(fixture)? {
        let (fd, size) = (&buffer.fd, off_t::try_from(buffer.size)?);
        let attempts = [
            ("write", write(fd, b"x").err()),
            ("pwrite", pwrite(fd, b"x", 0).err()),
            ("ftruncate", ftruncate(fd, 0).err()),
            ("ftruncate to the same size", ftruncate(fd, size).err()),
            ("fallocate", punch_hole(fd, 0, size).err()),
        ];
        for (call, error) in attempts {
            ensure!(
                error.is_some(),
                "{call} went through on a read-only buffer of heap {}",
                buffer.heap_name
            );
        }
    }
    Ok(())
}

fn read_only_buffer_cannot_be_mapped_for_writing(fixture: &Fixture) -> Result<()> {
    for buffer in read_only(fixture)? {
        let error = Mapping::writable(&buffer.fd, buffer.size).err().with_context(|| {
            format!("a read-only buffer of heap {} was mapped for writing", buffer.heap_name)
        })?;
        let refusal = if buffer.backing == Backing::ASHMEM { Errno::EPERM } else { Errno::EACCES };
        check_eq!(error.raw_os_error(), Some(refusal as i32), "error of mmap");
        let mut mapping = Mapping::read_only(&buffer.fd, buffer.size)?;
        let error = mapping
            .make_writable()
            .err()
            .with_context(|| format!("a read-only mapping of heap {} was made writable", buffer.heap_name))?;
        check_eq!(error.raw_os_error(), Some(Errno::EACCES as i32), "error of mprotect");
    }
    Ok(())
}

/// # Errors
/// [`inapplicable`] if the kernel does not restrict this process like others.
fn require_another_uid(fixture: &Fixture) -> Result<()> {
    if fixture.uid == 0 {
        return inapplicable("root may open everything; run the suite as another uid too");
    }
    match fixture.service_uid {
        None => inapplicable("the service's uid cannot be told over this transport without memfd buffers"),
        Some(uid) if uid == fixture.uid => {
            inapplicable("the service runs as this uid, which may open its files")
        }
        Some(_) => Ok(()),
    }
}

fn read_only_buffer_cannot_be_reopened_for_writing_by_another_uid(fixture: &Fixture) -> Result<()> {
    require_another_uid(fixture)?;
    // Opening an ashmem region again creates another region.
    let can_be_reopened = |buffer: &Held| buffer.backing != Backing::ASHMEM;
    for buffer in read_only(fixture)?.into_iter().filter(can_be_reopened) {
        let path = format!("/proc/self/fd/{}", buffer.fd.as_raw_fd());
        // A descriptor that was opened without access must not permit reopening, either.
        let handle = open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        for path in [path, format!("/proc/self/fd/{}", handle.as_raw_fd())] {
            for mode in [OFlag::O_RDWR, OFlag::O_WRONLY, OFlag::O_WRONLY | OFlag::O_TRUNC] {
                let opened = open(path.as_str(), mode | OFlag::O_CLOEXEC, Mode::empty());
                ensure!(
                    opened.is_err(),
                    "a read-only buffer of heap {} re-opened {mode:?}",
                    buffer.heap_name
                );
            }
        }
    }
    Ok(())
}

fn mode_cannot_be_changed_by_another_uid(fixture: &Fixture) -> Result<()> {
    require_another_uid(fixture)?;
    let memfds: Vec<_> =
        read_only(fixture)?.into_iter().filter(|buffer| buffer.backing == Backing::MEMFD).collect();
    for buffer in &memfds {
        let refusal = fchmod(&buffer.fd, Mode::all());
        // SELinux refuses before the kernel compares uids.
        ensure!(
            matches!(refusal, Err(Errno::EPERM | Errno::EACCES)),
            "fchmod of a buffer of {}: {refusal:?}",
            buffer.heap_name
        );
    }
    if memfds.is_empty() {
        inapplicable("no usable heap gives memfds, whose file mode counts")
    } else {
        Ok(())
    }
}

fn read_write_buffer_can_be_written(fixture: &Fixture) -> Result<()> {
    for heap in fixture.mappable()? {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        check_eq!(access_mode(&buffer.fd)?, OFlag::O_RDWR, "access mode of a buffer of {}", heap.name);
        let mapping = Mapping::writable(&buffer.fd, buffer.size)?;
        mapping.fill(u64::MAX);
        check_eq!(mapping.first_other_than(u64::MAX), None, "first word that was not written");
    }
    Ok(())
}

fn heap_without_read_only_buffers_refuses_them(fixture: &Fixture) -> Result<()> {
    let mut writable_alone =
        fixture.usable().filter(|heap| heap.flags & HeapFlags::READ_ONLY.0 == 0).peekable();
    if writable_alone.peek().is_none() {
        return inapplicable("every heap here gives read-only buffers");
    }
    for heap in writable_alone {
        let request = AllocationRequest { access: Access::READ_ONLY, ..from_heap(heap.id, 1) };
        fixture.refused(&request, &[ErrorCode::UNSUPPORTED])?;
    }
    Ok(())
}
