// SPDX-License-Identifier: Apache-2.0
//! Child processes: the suite executes itself to get holders that exit, are killed, or inherit a
//! descriptor.
//!
//! A child receives a buffer as its standard input. It prints [`READY`] once it is in the state
//! that the test needs, and is killed when the test drops it.

mod roles;

pub(crate) use roles::{AGAIN, SECRET};

use crate::request::aidl::ReservationRequest;
use crate::request::aidl::interface::IHeapAllocator;
use crate::request::{from_any, from_heap, held};
use crate::sys::{Mapping, send_descriptor};
use crate::target::Target;
use anion_ipc::{Connection, ParcelFileDescriptor};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, alarm, dup2_stdin, pause};
use std::fs::File;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

/// First argument of a child. No test can have this name.
pub(crate) const ARGUMENT: &str = "--as-child";
/// The line that a child prints when it is ready.
const READY: &str = "ready";
/// Maximal lifetime of a child in seconds, also if the test run is interrupted.
const LIFETIME_SECONDS: u32 = 1200;

/// A running child; dropping it kills it.
pub(crate) struct ChildProcess {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl ChildProcess {
    /// Executes this program as a child with the task `role`, with `input` as its standard input,
    /// and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started or reports a failure.
    pub(crate) fn start(role: &str, arguments: &[&str], input: Option<OwnedFd>) -> Result<Self> {
        Self::start_command(Command::new(std::env::current_exe()?), role, arguments, input)
    }

    /// Does the same as another user; this process must be root.
    ///
    /// # Errors
    /// As [`ChildProcess::start`].
    pub(crate) fn start_as(uid: u32, role: &str, arguments: &[&str], input: Option<OwnedFd>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.uid(uid).gid(uid).current_dir("/");
        Self::start_command(command, role, arguments, input).with_context(|| format!("as uid {uid}"))
    }

    fn start_command(
        mut command: Command,
        role: &str,
        arguments: &[&str],
        input: Option<OwnedFd>,
    ) -> Result<Self> {
        let mut child = command
            .arg(ARGUMENT)
            .arg(role)
            .args(arguments)
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start a child to {role}"))?;
        let output = BufReader::new(child.stdout.take().context("a child without an output")?);
        let mut process = Self { child, output };
        let line = process.line()?;
        ensure!(
            line == READY,
            "the child that should {role} said {line:?}; its standard error has the reason"
        );
        Ok(process)
    }

    /// Returns the next line that it prints; empty at the end.
    ///
    /// # Errors
    /// If reading fails.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Returns its process id as the service sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it until it is killed.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub(crate) fn suspend(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGSTOP)?)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has exited by itself, without an error.
    ///
    /// # Errors
    /// If it failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the child ended with {status}");
        Ok(())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Both fail only if it has already ended, which is the intended result.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a child: `arguments` are the role and its parameters.
///
/// # Errors
/// The errors of the role; an unknown role or parameter.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    alarm::set(LIFETIME_SECONDS);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["hold", target, count, size] => hold(target, count, size, || {
            loop {
                pause();
            }
        }),
        ["exit", target, count, size] => hold(target, count, size, || {
            // Runs no destructor: the process ends with open descriptors.
            std::process::exit(0)
        }),
        ["reserve", target, heap, count, size] => reserve(target, heap, count, size),
        ["churn", target, size] => churn(target, size),
        ["lend", target, size] => lend(target, size),
        ["inherit"] => ready_and_wait(),
        ["map", size] => map(size),
        ["exchange", size, found, reply] => exchange(size, found, reply),
        ["describe", target] => describe(target),
        ["spread", target, heap, size, count, word] => spread(target, heap, size, count, word),
        ["graphics", target] => crate::graphics::allocate_for_parent(target, || say(READY)),
        ["pin", target, heap, size] => roles::pin(target, heap, size),
        ["listen", target, count] => roles::listen(target, count),
        _ => bail!("no role {arguments:?}"),
    }
}

fn say(line: &str) -> Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn ready_and_wait() -> Result<()> {
    say(READY)?;
    loop {
        pause();
    }
}

fn service(target: &str) -> Result<Connection<dyn IHeapAllocator>> {
    Ok(target.parse::<Target>()?.connect(1)?)
}

/// Allocates, and calls `end` while it holds the buffers.
fn hold(target: &str, count: &str, size: &str, end: fn() -> ()) -> Result<()> {
    let connection = service(target)?;
    let mut request = from_any(size.parse()?);
    request.count = count.parse()?;
    let _buffers = held(connection.service.allocate(&request)?)?;
    say(READY)?;
    end();
    Ok(())
}

/// Reserves, and keeps the reservation.
fn reserve(target: &str, heap: &str, count: &str, size: &str) -> Result<()> {
    let connection = service(target)?;
    let request =
        ReservationRequest { size: size.parse()?, count: count.parse()?, heapName: heap.to_owned() };
    let _reservation = connection.service.reserve(&request)?;
    ready_and_wait()
}

/// Allocates and releases in a loop: if it is killed, a reply may be on its way.
fn churn(target: &str, size: &str) -> Result<()> {
    let connection = service(target)?;
    let mut request = from_any(size.parse()?);
    request.count = 8;
    say(READY)?;
    loop {
        held(connection.service.allocate(&request)?)?;
    }
}

/// Allocates, and sends the buffer over the inherited socket.
fn lend(target: &str, size: &str) -> Result<()> {
    let connection = service(target)?;
    let buffers = held(connection.service.allocate(&from_any(size.parse()?))?)?;
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    for buffer in &buffers {
        send_descriptor(&socket, &buffer.fd)?;
    }
    ready_and_wait()
}

/// Holds the inherited buffer only by a mapping.
fn map(size: &str) -> Result<()> {
    let mapping = Mapping::read_only(stdin(), size.parse()?)?;
    dup2_stdin(File::open("/dev/null")?.as_fd())?;
    say(READY)?;
    loop {
        pause();
        // Uses the mapping, so that it lives as long as the loop.
        mapping.load(0);
    }
}

/// Checks that every word of the inherited buffer is `found`, and replaces it with `reply`.
fn exchange(size: &str, found: &str, reply: &str) -> Result<()> {
    let mapping = Mapping::writable(stdin(), size.parse()?)?;
    let other = mapping.first_other_than(found.parse()?);
    ensure!(other.is_none(), "word {other:?} differs from the parent's data");
    mapping.fill(reply.parse()?);
    say(READY)
}

/// Fills buffers of a heap with one word, and holds them.
fn spread(target: &str, heap: &str, size: &str, count: &str, word: &str) -> Result<()> {
    let connection = service(target)?;
    let (request, word) = (from_heap(heap.parse()?, size.parse()?), word.parse()?);
    let mut buffers = Vec::new();
    for _ in 0..count.parse::<usize>()? {
        buffers.extend(held(connection.service.allocate(&request)?)?);
    }
    for buffer in &buffers {
        Mapping::writable(&buffer.fd, buffer.size)?.fill(word);
    }
    ready_and_wait()
}

/// Calls `describe` with the inherited buffer.
fn describe(target: &str) -> Result<()> {
    let connection = service(target)?;
    let buffer = ParcelFileDescriptor::new(stdin().as_fd().try_clone_to_owned()?);
    let info = connection.service.describe(&buffer)?;
    say(READY)?;
    say(&format!("{} {} {}", info.id, info.ownerUid, info.ownerPid))
}
