// SPDX-License-Identifier: Apache-2.0
//! `--trap`: answers a program's system calls for the device nodes.
//!
//! The program and all processes that it starts have a filter. The kernel stops the calls that the
//! filter selects, and reports each to this process (seccomp_unotify(2)). This process answers
//! calls for a node; the kernel executes all others as usual. Module map: `filter` selects the
//! calls, `serve` answers them, `turn` selects the thread, `caller` accesses the program's memory
//! and descriptors, `supervise` starts the program and waits for it.
//!
//! This is not a security boundary: the kernel and the service check every permission again.

mod caller;
mod calls;
mod filter;
mod serve;
mod status;
mod supervise;
#[expect(unsafe_code, reason = "system calls that no library has; every block argues for itself")]
mod sys;
mod turn;

use super::{RunArgs, program, words};
use crate::failure::Failure;
use anion_ipc::Endpoint;
use anion_nodes::{Interface, Nodes, Settings};
use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;
use supervise::Signals;

/// The environment variable that selects Anion's nodes also if the machine has its own.
const FORCE_VARIABLE: &str = "ANION_PRELOAD_FORCE";
/// Calls of the program's threads that the service answers at the same time.
const CONNECTIONS: u32 = 4;

/// Runs the program to its end as a child process, with the service that `find` finds. Returns the
/// program's exit code as a failure.
pub(crate) fn run(args: &RunArgs, find: impl FnOnce() -> Result<Endpoint, Failure>) -> Failure {
    match exit_code(args, find) {
        Ok(code) => Failure::Ended(code),
        Err(failure) => failure,
    }
}

fn exit_code(args: &RunArgs, find: impl FnOnce() -> Result<Endpoint, Failure>) -> Result<u8, Failure> {
    let (name, arguments) = words(args)?;
    let program = program::find(name)?;
    program::examine_for_trap(&program)?;
    // Before a connection, which can start threads: signals would end them.
    let signals = Signals::take()?;
    let mut settings =
        Settings { interface: args.ion.map(Interface::from).unwrap_or_default(), ..Settings::default() };
    settings.client.endpoint = Some(find()?);
    settings.client.connections = CONNECTIONS;
    let mut command = Command::new(&program);
    command.arg0(name).args(arguments);
    let forced = env::var_os(FORCE_VARIABLE).is_some();
    supervise::run(command, Nodes::new(settings), forced, &signals)
}
