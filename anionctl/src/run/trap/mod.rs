// SPDX-License-Identifier: Apache-2.0
//! `--trap`: a program whose system calls about the device nodes are answered here.
//!
//! The program gets a filter before it begins, and so do all processes that it starts. The kernel
//! stops the calls that the filter names and tells this process of each (seccomp_unotify(2)): those
//! about a node are answered here, all others the kernel carries out as if it had not asked. Where
//! to read: `filter` is what is trapped, `serve` what is answered, `turn` by which thread, `caller`
//! how the program's memory and descriptors are reached, `supervise` how the program is started and
//! waited for.
//!
//! What the program may do is not limited by this: it decides nothing that the kernel or the
//! service does not decide again.

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

/// The environment variable by which programs get Anion's nodes also where the machine has some.
const FORCE_VARIABLE: &str = "ANION_PRELOAD_FORCE";
/// Calls of the program's threads that the service answers at once.
const CONNECTIONS: u32 = 4;

/// Runs the program to its end as its parent, with the service that `find` finds. What this returns
/// has the program's exit code.
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
    // Before a connection, which can have threads: they would be ended by signals.
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
