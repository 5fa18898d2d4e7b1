// SPDX-License-Identifier: Apache-2.0
//! `anionctl run`: executes a program that finds the nodes of ION and of dma-heaps, also if the
//! machine has none.
//!
//! `program` finds the program and examines it. `preload` adds the library to `LD_PRELOAD`. `trap`
//! is the alternative: a parent process that answers the program's system calls.

mod args;
mod preload;
mod program;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod trap;

pub(crate) use args::RunArgs;

use crate::failure::Failure;
use anion_ipc::Endpoint;
use anion_nodes::Interface;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// The environment variable with the endpoint of the service.
const SOCKET_VARIABLE: &str = "ANION_SOCKET";
/// The environment variable that selects the interface of `/dev/ion`.
const INTERFACE_VARIABLE: &str = "ANION_ION_INTERFACE";

/// Exit code of env(1) for a program that exists but cannot be run.
const CANNOT_RUN: u8 = 126;
/// Exit code of env(1) for a program that does not exist.
const NOT_FOUND: u8 = 127;

/// Executes the program in this process, with the service at `endpoint`. The program's exit code,
/// signals and process id are those of this process. Returns only on failure.
pub(crate) fn become_it(args: &RunArgs, endpoint: &Endpoint) -> Failure {
    match prepare(args, endpoint) {
        Ok(mut command) => {
            let error = command.exec();
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
            Failure::Exec(format!("cannot run {}: {error}", Path::new(command.get_program()).display()), code)
        }
        Err(failure) => failure,
    }
}

/// Returns the program's name and its arguments.
fn words(args: &RunArgs) -> Result<(&OsString, &[OsString]), Failure> {
    args.program.split_first().ok_or_else(|| Failure::Usage("run needs a program".to_owned()))
}

fn prepare(args: &RunArgs, endpoint: &Endpoint) -> Result<Command, Failure> {
    let (name, arguments) = words(args)?;
    let program = program::find(name)?;
    let library = preload::find(args.preload.as_deref())?;
    program::examine(&program, &library)?;
    let mut command = Command::new(&program);
    command.arg0(name).args(arguments).env("LD_PRELOAD", preload::list(&library)?);
    match endpoint {
        Endpoint::Socket(path) => command.env(SOCKET_VARIABLE, absolute(path)?),
        // The library finds binder without the variable.
        Endpoint::Binder(_) => command.env_remove(SOCKET_VARIABLE),
    };
    if let Some(interface) = args.ion {
        command.env(INTERFACE_VARIABLE, Interface::from(interface).word());
    }
    Ok(command)
}

/// Returns an absolute path, which stays valid if the program changes its directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::local("cannot determine the current directory", &error))
}

/// Returns the folders of PATH; those of the C library's search if it is not set.
fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH");
    env::split_paths(path.as_deref().unwrap_or(OsStr::new("/bin:/usr/bin"))).collect()
}
