// SPDX-License-Identifier: Apache-2.0
//! A second process that looks up names of users and groups for a service with a filter.
//!
//! The administrator of the machine chooses the libraries that read the system's database of
//! accounts (nsswitch.conf(5)): files, a directory on the network, systemd. No list of system calls
//! contains all calls of such libraries, and a call that is not in the list ends the service. This
//! process is started before the filter, keeps all system calls, and reads only names from the
//! service. It ends when the service closes its end of the socket.

use super::accounts;
use crate::config::{Account, AccountError};
use crate::units::Uid;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The option that starts the program as this process.
pub(crate) const OPTION: &str = "look-up-accounts";

/// Time that the service waits for one name. A directory on the network may not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service's connection to the process.
pub(crate) struct Lookup {
    /// `None` once an answer was late: the late answer would be read as the answer to the next
    /// name.
    process: RefCell<Option<BufReader<File>>>,
}

impl Lookup {
    /// Starts the process. If that fails, logs a warning, and every lookup returns an error.
    pub(crate) fn start() -> Self {
        let started = Self::process();
        let failed =
            |error| log::warn!("names in a configuration that is read again will be unknown: {error:#}");
        Self { process: RefCell::new(started.map_err(failed).ok()) }
    }

    fn process() -> anyhow::Result<BufReader<File>> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
        ours.set_read_timeout(Some(PATIENCE)).context("cannot limit the wait for an answer")?;
        let theirs = OwnedFd::from(theirs);
        let mut command =
            Command::new(env::current_exe().context("cannot determine the path of this program")?);
        command.arg(format!("--{OPTION}")).env_clear().stderr(Stdio::null());
        command.stdin(theirs.try_clone().context("cannot copy a descriptor")?).stdout(theirs);
        command.spawn().context("cannot start the process that looks up names")?;
        // A file, so that read(2) and write(2) are used, which the filter permits.
        Ok(BufReader::new(File::from(OwnedFd::from(ours))))
    }

    /// Requests the lookup of an account from the process.
    ///
    /// # Errors
    /// If there is no such account, the database cannot be read, or the process does not answer.
    pub(crate) fn look_up(&self, account: &Account) -> Result<Vec<Uid>, AccountError> {
        let failed = |reason: String| AccountError::Failed { account: account.clone(), reason };
        let mut place = self.process.borrow_mut();
        let Some(process) = &mut *place else {
            return Err(failed("the process that looks up names has ended; restart the service".to_owned()));
        };
        let answer = ask(process, account).and_then(|line| {
            Answer::parse(&line)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("its answer is {line:?}")))
        });
        match answer {
            Ok(Answer::Uids(uids)) => Ok(uids),
            Ok(Answer::Unknown) => Err(AccountError::Unknown(account.clone())),
            Ok(Answer::Failed(reason)) => Err(failed(reason)),
            Err(error) => {
                *place = None;
                Err(failed(format!("the process that looks up names does not answer: {error}")))
            }
        }
    }
}

/// Sends the name of an account. Returns the line of the answer, without its end.
fn ask(process: &mut BufReader<File>, account: &Account) -> io::Result<String> {
    let (kind, name) = match account {
        Account::User(name) => ("user", name),
        Account::Group(name) => ("group", name),
    };
    process.get_mut().write_all(format!("{kind} {name}\n").as_bytes())?;
    let mut line = String::new();
    process.read_line(&mut line)?;
    let line = line.strip_suffix('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(line.to_owned())
}

/// The answer about an account, as one line.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Uids(Vec<Uid>),
    Unknown,
    Failed(String),
}

impl Answer {
    fn of(found: Result<Vec<Uid>, AccountError>) -> Self {
        match found {
            Ok(uids) => Self::Uids(uids),
            Err(AccountError::Unknown(_)) => Self::Unknown,
            Err(AccountError::Failed { reason, .. }) => Self::Failed(reason),
            Err(error @ AccountError::TooMany(_)) => Self::Failed(error.to_string()),
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Uids(uids) => {
                let uids = uids.iter().map(|uid| format!(" {uid}")).collect::<String>();
                format!("uids{uids}")
            }
            Self::Unknown => "unknown".to_owned(),
            Self::Failed(reason) => format!("failed {reason}"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "uids" => rest
                .split_whitespace()
                .map(|uid| uid.parse().ok().map(Uid))
                .collect::<Option<_>>()
                .map(Self::Uids),
            "unknown" => Some(Self::Unknown),
            "failed" => Some(Self::Failed(rest.to_owned())),
            _ => None,
        }
    }
}

/// Answers the requests of standard input on standard output, until the input ends. Ignores SIGHUP,
/// which the service's process group may get.
///
/// # Errors
/// If reading or writing fails, or a request names no account.
pub(crate) fn answer() -> io::Result<()> {
    SigSet::from(Signal::SIGHUP).thread_block()?;
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let account = match line.split_once(' ') {
            Some(("user", name)) => Account::User(name.to_owned()),
            Some(("group", name)) => Account::Group(name.to_owned()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        writeln!(output, "{}", Answer::of(accounts::look_up(&account)).line())?;
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_written() {
        let failed = || Answer::Failed("Input/output error".to_owned());
        for answer in
            [Answer::Uids(vec![]), Answer::Uids(vec![Uid(0), Uid(u32::MAX)]), Answer::Unknown, failed()]
        {
            assert_eq!(Answer::parse(&answer.line()), Some(answer));
        }
        for bad in ["", "uids x", "uids -1", "uid 1", "uids 4294967296"] {
            assert_eq!(Answer::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_an_error_of_every_name() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let process = RefCell::new(Some(BufReader::new(File::from(OwnedFd::from(ours)))));
        let lookup = Lookup { process };
        drop(theirs);
        for _ in 0..2 {
            let error = lookup.look_up(&Account::User("camera".to_owned())).expect_err("no answer");
            assert!(
                error.to_string().starts_with("user \"camera\" cannot be looked up: the process"),
                "{error}"
            );
        }
    }
}
