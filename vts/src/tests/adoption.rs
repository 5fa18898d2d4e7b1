// SPDX-License-Identifier: Apache-2.0
//! Tests `adopt`: only files that a service made are counted, and live buffers stay as they are.

use crate::harness::Fixture;
use crate::outcome::{check_eq, expect_error, inapplicable, tests};
use crate::request::aidl::ErrorCode;
use crate::request::from_heap;
use anion_ipc::ParcelFileDescriptor;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::fs::File;
use std::os::fd::OwnedFd;

tests![
    Shared live_buffer_that_is_presented_keeps_its_id,
    Shared files_that_are_no_memfds_of_buffers_are_not_adopted,
    Shared forged_file_with_the_name_and_seals_of_a_buffer_is_not_adopted,
];

fn adopt(fixture: &Fixture, fd: impl Into<OwnedFd>) -> anion_ipc::Result<i64> {
    fixture.service.adopt(&ParcelFileDescriptor::new(fd.into()), 1)
}

fn live_buffer_that_is_presented_keeps_its_id(fixture: &Fixture) -> Result<()> {
    for heap in fixture.reported() {
        let buffer = fixture.allocate_one(&from_heap(heap.id, 1))?;
        for _ in 0..2 {
            let id = adopt(fixture, buffer.fd.try_clone()?).with_context(|| heap.name.clone())?;
            check_eq!(id, buffer.id, "id of a live buffer of heap {}", heap.name);
        }
        drop(buffer);
    }
    Ok(())
}

/// Returns a file like those of buffers.
fn file(name: &str, seals: SealFlag) -> Result<OwnedFd> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&file, 65536)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

fn files_that_are_no_memfds_of_buffers_are_not_adopted(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let named = format!("anion:{}", heap.name);
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let (reader, _writer) = std::io::pipe()?;
    let strangers: [(&str, OwnedFd); 5] = [
        ("a memfd without seals", file(&named, SealFlag::empty())?),
        ("a memfd of another program", file("frames", size)?),
        ("a memfd of a heap that does not exist", file("anion:nowhere", size)?),
        ("a pipe", reader.into()),
        ("a regular file", File::open(std::env::current_exe()?)?.into()),
    ];
    for (what, fd) in strangers {
        expect_error(adopt(fixture, fd), &[ErrorCode::NOT_OURS])
            .with_context(|| format!("adopt of {what}"))?;
    }
    Ok(())
}

fn forged_file_with_the_name_and_seals_of_a_buffer_is_not_adopted(fixture: &Fixture) -> Result<()> {
    let Some(service) = fixture.service_uid else {
        return inapplicable("the service's uid cannot be told without memfd buffers");
    };
    if service == fixture.uid {
        return inapplicable("the service runs as this uid, whose files it cannot distinguish from its own");
    }
    let heap = fixture.roomy()?;
    let forged = file(&format!("anion:{}", heap.name), SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
    expect_error(adopt(fixture, forged), &[ErrorCode::NOT_OURS]).context("adopt of a forged file")?;
    Ok(())
}
