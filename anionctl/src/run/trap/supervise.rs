// SPDX-License-Identifier: Apache-2.0
//! Starts the program with its filter, passes signals to it, and waits for it and its descendants.

use super::filter;
use super::serve::Server;
use super::sys::{self, Listener};
use crate::exec;
use crate::failure::Failure;
use anion_nodes::Nodes;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// Calls that wait for the service at the same time; further calls wait for one of these.
const THREADS: usize = 8;
/// Signals that request an end or an action of a program, and are passed to it.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
/// Added to the number of the signal that ended a program, as shells do.
const BY_SIGNAL: i32 = 128;
/// `SI_KERNEL`: a signal of the terminal, which the program also received.
const BY_TERMINAL: i32 = 0x80;

/// Runs `command` until it and all processes that it started have ended. Returns its exit code, or
/// 128 + n after signal n.
///
/// Passes signals of this process to the program. After the program ended, a signal ends the wait
/// for its descendants: every later `open` of theirs fails.
///
/// # Errors
/// [`Failure::Local`] if the kernel cannot trap system calls, or not in this environment;
/// [`Failure::Exec`] if the program cannot be started.
pub(super) fn run(
    mut command: Command,
    nodes: Nodes,
    forced: bool,
    signals: &Signals,
) -> Result<u8, Failure> {
    // Orphaned descendants become children of this process. So it detects the end of the last one,
    // and may read their memory if only ancestors may (Yama).
    set_child_subreaper(true).map_err(|error| Failure::local("PR_SET_CHILD_SUBREAPER", &error.into()))?;
    let (program, listener) = start(&mut command, signals.before)?;
    check_memory(program)?;
    let server = Server::new(Listener::new(listener), nodes, forced).map_err(|error| {
        end(program);
        Failure::local("eventfd", &error.into())
    })?;
    let server = Arc::new(server);
    for _ in 0..THREADS {
        let server = Arc::clone(&server);
        // The threads are not joined: after the last process ended, they have no calls to answer.
        let started = thread::Builder::new().name("anion-trap".to_owned()).spawn(move || server.serve());
        if let Err(error) = started {
            end(program);
            return Err(Failure::local("cannot start a thread", &error));
        }
    }
    wait(program, signals)
}

/// Signals that are read from a descriptor while this exists.
pub(super) struct Signals {
    incoming: SignalFd,
    /// The signals that were blocked before.
    before: SigSet,
}

impl Signals {
    /// Blocks the signals in this thread, and in threads that it starts.
    ///
    /// # Errors
    /// [`Failure::Local`] if the process has no free descriptors.
    pub(super) fn take() -> Result<Self, Failure> {
        let take = || -> Result<Self, Errno> {
            let mut taken = SigSet::from_iter(PASSED_ON);
            taken.add(Signal::SIGCHLD);
            let mut before = SigSet::empty();
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&taken), Some(&mut before))?;
            Ok(Self { incoming: SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC)?, before })
        };
        take().map_err(|error| Failure::local("cannot wait for signals", &error.into()))
    }

    fn next(&self) -> Result<siginfo, Failure> {
        loop {
            match self.incoming.read_signal() {
                Ok(Some(signal)) => return Ok(signal),
                Ok(None) | Err(Errno::EINTR) => {}
                Err(error) => return Err(Failure::local("cannot wait for signals", &error.into())),
            }
        }
    }
}

/// Starts the program with the filter, and with the original signal mask. Returns the program and
/// the descriptor that receives its calls.
fn start(command: &mut Command, blocked: SigSet) -> Result<(Pid, OwnedFd), Failure> {
    let pair = UnixStream::pair();
    let (ours, theirs) = pair.map_err(|error| Failure::local("cannot make a socket", &error))?;
    sys::before_exec(command, filter::program(), blocked, theirs);
    let started = command.spawn();
    let listener = receive(&ours);
    match (started, listener) {
        (Ok(child), Ok(listener)) => Ok((Pid::from_raw(child.id().cast_signed()), listener)),
        (Ok(child), Err(error)) => {
            end(Pid::from_raw(child.id().cast_signed()));
            Err(Failure::local("cannot get the trapped calls", &error))
        }
        // The filter was installed, so the program caused the failure.
        (Err(error), Ok(_)) => Err(exec::failure(command.get_program(), &error)),
        (Err(error), Err(_)) => Err(refused(&error)),
    }
}

/// Returns the failure to install the filter.
fn refused(error: &io::Error) -> Failure {
    let why = match error.raw_os_error() {
        Some(libc::EBUSY) => {
            "another program traps the system calls of this process already, and the kernel permits one"
        }
        Some(libc::EOPNOTSUPP) => "the kernel is older than 5.14, and cannot answer a call with a descriptor",
        Some(libc::ENOSYS | libc::EINVAL) => {
            "the kernel has no seccomp user notification (Linux 5.0, CONFIG_SECCOMP_FILTER)"
        }
        _ => "the process cannot be prepared for it",
    };
    Failure::Local(format!(
        "cannot trap system calls: {why}: {error}; without --trap the program is preloaded"
    ))
}

/// Checks that the program's memory, which contains the paths of calls, can be read.
fn check_memory(program: Pid) -> Result<(), Failure> {
    match File::open(format!("/proc/{program}/mem")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            end(program);
            Err(Failure::Local(format!(
                "cannot read the program's memory, which --trap needs: {error}; its file must be readable, and \
                 /proc/sys/kernel/yama/ptrace_scope, if it is there, at most 1; without --trap the program is \
                 preloaded"
            )))
        }
        // The program may have ended.
        _ => Ok(()),
    }
}

/// Kills a program that cannot be served.
fn end(program: Pid) {
    // It may have ended before.
    let _ = kill(program, Signal::SIGKILL);
    let _ = waitpid(program, None);
}

/// Passes signals until the program and its descendants have ended. Returns the program's exit
/// code.
fn wait(program: Pid, signals: &Signals) -> Result<u8, Failure> {
    let mut ended = None;
    loop {
        let signal = signals.next()?;
        let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
        if number == Signal::SIGCHLD as i32 {
            // One signal can report several children.
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(child, code)) if child == program => ended = Some(code),
                    Ok(WaitStatus::Signaled(child, signal, _)) if child == program => {
                        ended = Some(BY_SIGNAL + signal as i32);
                    }
                    Ok(WaitStatus::StillAlive) => break,
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => return Ok(code(ended.unwrap_or_default())),
                }
            }
        } else if ended.is_some() {
            return Ok(code(BY_SIGNAL + number));
        } else if signal.ssi_code != BY_TERMINAL
            && let Ok(signal) = Signal::try_from(number)
        {
            // It is not reaped, so its number is not reused.
            let _ = kill(program, signal);
        }
    }
}

fn code(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(u8::MAX)
}

/// Receives a descriptor. The sender has already sent it or has closed its end.
///
/// # Errors
/// `UnexpectedEof` if nothing was sent.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut message, flags)?;
    let fds = message.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
