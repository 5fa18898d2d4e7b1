// SPDX-License-Identifier: Apache-2.0
//! `--exec`: executes another program in this process, which inherits the buffers.

use crate::failure::Failure;
use command_fds::{CommandFdExt, FdMapping};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A buffer that this process holds and can pass to a program.
pub(crate) struct Held {
    pub(crate) file: File,
    pub(crate) id: i64,
    pub(crate) size: i64,
}

/// Environment variable with the numbers of inherited buffers, separated by spaces.
pub(crate) const FDS_VARIABLE: &str = "ANION_FDS";
/// Environment variable with their ids, in the same order.
const IDS_VARIABLE: &str = "ANION_IDS";
/// Environment variable with their sizes in bytes, in the same order.
const SIZES_VARIABLE: &str = "ANION_SIZES";

/// The first descriptor number that is free for buffers: after standard input, output and error.
const FIRST_FD: RawFd = 3;
/// Exit code of shells for a command that exists but cannot be run.
const CANNOT_RUN: u8 = 126;
/// Exit code of shells for a command that does not exist.
const NOT_FOUND: u8 = 127;

/// Executes `command` in this process, with the buffers as descriptors 3, 4, … The command's exit
/// code, signals and process id are those of this process. Returns only on failure.
pub(crate) fn replace_process(command: &[OsString], held: Vec<Held>) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::Usage("--exec needs a command".to_owned());
    };
    let ids = words(held.iter().map(|buffer| buffer.id));
    let sizes = words(held.iter().map(|buffer| buffer.size));
    let mappings: Vec<FdMapping> = (FIRST_FD..)
        .zip(held)
        .map(|(child_fd, buffer)| FdMapping { parent_fd: OwnedFd::from(buffer.file), child_fd })
        .collect();

    let mut process = Command::new(program);
    process
        .args(arguments)
        .env(FDS_VARIABLE, words(mappings.iter().map(|mapping| mapping.child_fd)))
        .env(IDS_VARIABLE, ids)
        .env(SIZES_VARIABLE, sizes);
    let error = match process.fd_mappings(mappings) {
        Ok(process) => process.exec(),
        Err(collision) => io::Error::other(collision),
    };
    failure(program, &error)
}

/// Returns the failure to start a program, with the exit code that shells use for it.
pub(crate) fn failure(program: &OsStr, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    Failure::Exec(format!("cannot run {}: {error}", program.display()), code)
}

/// Returns the numbers separated by spaces.
fn words(numbers: impl Iterator<Item = impl ToString>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}
