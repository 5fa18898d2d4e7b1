// SPDX-License-Identifier: Apache-2.0
//! The command line.

#[cfg(not(soong))]
use super::lookup;
#[cfg(not(soong))]
use super::seccomp::SystemCalls;
use crate::allocator::WatchedCgroup;
use anion_ipc::{Endpoint, EndpointError};
use clap::builder::{PossibleValuesParser, TypedValueParser};
#[cfg(not(soong))]
use clap::{Arg, CommandFactory, FromArgMatches};
use clap::{Args, Parser, ValueEnum, ValueHint};
#[cfg(not(soong))]
use clap_complete::Shell;
use log::LevelFilter;
use nix::errno::Errno;
use nix::unistd::{Gid, Group};
use std::path::PathBuf;

// Lines of at most 80 columns: a narrower terminal would break their layout.
const EXAMPLES: &str = "\
Examples:
  aniond
      Serve the built-in heaps: over kernel binder if it is there, else at
      $XDG_RUNTIME_DIR/anion/allocator.sock.
  aniond --config board.dts --socket /tmp/anion.sock
      Serve the heaps that a device tree describes, only at this socket.
  aniond --transport both --socket-group video --socket-mode 0660
      Serve over kernel binder, and over a socket for the group video.
  aniond --check-config board.dts
      Show the heaps of this device tree, and every error.
  aniond --check-config board.dtb camera.dtbo
      The same with an overlay; --config takes overlays, too.
  aniond --doctor --config board.dts
      Show what this machine lacks for these heaps, and the commands that help.
  aniond --completions bash > /etc/bash_completion.d/aniond
      Install completions.

systemd:
  aniond serves a listening socket from systemd (LISTEN_FDS), reports that it
  is ready (NOTIFY_SOCKET), and writes priorities with log lines to the
  journal.

Signals:
  SIGTERM and SIGINT end every connection, remove the socket and exit with 0.
  A second signal exits at once. SIGHUP does the same if standard error is a
  terminal. Otherwise SIGHUP reads the configuration again: the limits and
  privileges of clients change, heaps stay, and the log names the changes that
  need a restart. It also looks for missing devices again, which aniond does
  without a signal when they appear in /dev.

Environment:
  An empty variable counts as unset.

Exit status:
  0  after a clean stop, or if every checked configuration is correct
  1  if aniond cannot serve, or a checked configuration has an error
  2  if the command line is wrong
  4  if --doctor found that the machine lacks something for the configuration
  5  if --doctor cannot read the configuration or write its report";

/// Allocates memory buffers for other processes from ION-like heaps
///
/// A device tree describes the heaps. A client requests buffers over binder, through the kernel's
/// driver or a Unix socket, and gets them zeroed as file descriptors. A buffer counts against the
/// quota of the client's user until the last descriptor and mapping is gone.
#[derive(Debug, Parser)]
#[command(name = "aniond", version, after_long_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Device tree that describes the heaps
    ///
    /// A .dts text, a .dtb blob, or a directory like /proc/device-tree; overlays may follow.
    /// Default: on Android /vendor/etc/anion/heaps.dtb, elsewhere the built-in configuration.
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::AnyPath)]
    #[cfg_attr(not(soong), arg(env = "ANION_CONFIG"))]
    pub(crate) config: Vec<PathBuf>,

    /// Lowest severity of the messages to log
    ///
    /// Default: on Android the property persist.vendor.anion.log_level, else info.
    #[arg(long, value_name = "LEVEL", ignore_case = true, value_parser = log_level())]
    #[cfg_attr(not(soong), arg(env = "ANION_LOG"))]
    pub(crate) log_level: Option<LevelFilter>,

    /// Control group whose memory the service watches: a directory, own or none
    ///
    /// When the group exceeds its memory.high, reaches its memory.max, or its tasks wait for
    /// memory, pools return memory to the kernel. Only version 2 is supported. A directory that
    /// cannot be watched is an error; an own group without a memory controller is logged.
    #[arg(long, value_name = "DIR", default_value = "own", value_parser = cgroup)]
    #[cfg_attr(not(soong), arg(env = "ANION_CGROUP"))]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) cgroup: WatchedCgroup,

    /// System calls that the service may make: built-in, none (no filter), or a policy file
    ///
    /// Any other call ends the service, which names it on standard error. A file has the syntax of
    /// minijail's policies; built-in is Anion's own policy, for x86-64 and 64-bit ARM.
    #[cfg(not(soong))]
    #[arg(long, value_name = "FILE", default_value = "none", value_parser = SystemCalls::parse)]
    #[arg(env = "ANION_SECCOMP", value_hint = ValueHint::FilePath)]
    pub(crate) seccomp: SystemCalls,

    /// End the service when a thread hangs for this many seconds, so that it is started again
    ///
    /// The log names the thread and the kernel function in which it waits. Default: half of
    /// WatchdogSec= of the systemd unit, else no thread is watched.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watchdog: Option<u32>,

    #[command(flatten)]
    pub(crate) transport: TransportArguments,

    /// Print the heaps that these device trees describe, and their errors, then exit
    ///
    /// An overlay is applied to the tree before it.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "report", help_heading = "Instead of serving")]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) check_config: Vec<PathBuf>,

    /// Print which heaps of the configuration this machine can serve, and what to change, then exit
    ///
    /// `anionctl doctor --help` has more. If a service answers where this one would serve, or else
    /// where clients look for it, the report has the heaps that it cannot serve. Nothing is logged
    /// without --log-level.
    #[arg(long, group = "report", help_heading = "Instead of serving")]
    pub(crate) doctor: bool,

    /// With --doctor: show every check, not only those that the configuration needs
    #[arg(long, requires = "doctor", help_heading = "Instead of serving")]
    pub(crate) all: bool,

    /// With --check-config or --doctor: print one JSON document
    #[arg(long, requires = "report", help_heading = "Instead of serving")]
    pub(crate) json: bool,

    /// Print a completion script for this shell, then exit
    #[cfg(not(soong))]
    #[arg(long, value_name = "SHELL", exclusive = true, help_heading = "Instead of serving")]
    pub(crate) completions: Option<Shell>,

    /// Print the manual page aniond(8) as troff, then exit
    #[cfg(not(soong))]
    #[arg(long, exclusive = true, help_heading = "Instead of serving")]
    pub(crate) man: bool,

    /// Look up the accounts that standard input names: a service with a filter starts this.
    #[cfg(not(soong))]
    #[arg(long = lookup::OPTION, hide = true, exclusive = true)]
    pub(crate) look_up_accounts: bool,
}

/// The transports to the service.
#[derive(Debug, Args)]
#[command(next_help_heading = "Transports")]
pub(crate) struct TransportArguments {
    /// Transports to serve over
    ///
    /// Default: socket if --socket or a socket from systemd is given, else auto.
    #[arg(long, value_name = "KIND")]
    #[cfg_attr(not(soong), arg(env = "ANION_TRANSPORT"))]
    pub(crate) transport: Option<TransportKind>,

    /// Path of the Unix socket
    ///
    /// aniond makes a missing directory. It replaces a stale socket, never a live one. Default: for
    /// root /run/anion/allocator.sock, else anion/allocator.sock in $XDG_RUNTIME_DIR.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[cfg_attr(not(soong), arg(env = "ANION_SOCKET"))]
    pub(crate) socket: Option<PathBuf>,

    /// Serve Android's graphics allocator, too, under this instance name
    ///
    /// Its name is android.hardware.graphics.allocator.IAllocator/INSTANCE over kernel binder. Over
    /// a socket it is the root object of a socket of its own. The graphics node of the
    /// configuration assigns heaps to usages. Default of INSTANCE: default.
    #[arg(long, value_name = "INSTANCE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "default", value_parser = instance)]
    pub(crate) graphics: Option<String>,

    /// Path of the graphics allocator's socket, made like that of --socket
    ///
    /// Default: graphics.sock in the directory of the other socket.
    #[arg(long, value_name = "PATH", requires = "graphics", value_hint = ValueHint::FilePath)]
    pub(crate) graphics_socket: Option<PathBuf>,

    /// Permissions of the socket: a client needs write permission to connect
    ///
    /// Default: 0660 for root, else 0600.
    #[arg(long, value_name = "OCTAL", value_parser = socket_mode)]
    pub(crate) socket_mode: Option<u32>,

    /// Group of the socket, by name or number
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) socket_group: Option<Gid>,

    /// Binder device
    ///
    /// Default: /dev/binderfs/binder, else /dev/binder.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) binder_device: Option<PathBuf>,

    /// Most calls that are answered at once over kernel binder
    ///
    /// Over a socket, each connection has a thread of its own.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,

    /// Most socket connections in total; one more is refused at once
    ///
    /// Each connection has a thread. An eighth is kept for users who have none yet. Another eighth
    /// is kept for root, the service's own user, privileged users and users with reserves. In
    /// addition, root and the service's own user have eight connections for administration.
    #[arg(long, value_name = "N", default_value_t = 768, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_connections: u16,

    /// Most socket connections of one user; one more is refused at once
    #[arg(long, value_name = "N", default_value_t = 288, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_connections_per_uid: u16,

    /// Most sessions of one user over sockets; the first connection of one more is refused at once
    ///
    /// A client has one session: Anion's own library opens one or two connections for it, AOSP's
    /// libbinder nine.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_sessions_per_uid: u16,
}

/// A choice of transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportKind {
    /// Kernel binder if a binder device and a service manager answer, else the socket
    Auto,
    /// Only the Unix socket
    Socket,
    /// Only kernel binder; waits a few seconds for a service manager
    Binder,
    /// Both at once
    Both,
}

impl Arguments {
    /// Reads the command line and the environment, where an empty variable counts as unset. Ends
    /// the process if an argument is wrong or asks for help.
    #[cfg(not(soong))]
    pub(crate) fn read() -> Self {
        let is_empty = |argument: &Arg| {
            argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
        };
        let unset = |argument: Arg| {
            if is_empty(&argument) { argument.env(None::<&'static str>) } else { argument }
        };
        let matches = Self::command().mut_args(unset).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Reads the command line. The environment of a device is ignored.
    #[cfg(soong)]
    pub(crate) fn read() -> Self {
        Self::parse()
    }
}

impl TransportArguments {
    /// Returns the endpoint that these arguments name; `None` if they name none.
    ///
    /// # Errors
    /// If they select only binder, name no device, and the machine has none.
    pub(crate) fn endpoint(&self) -> Result<Option<Endpoint>, EndpointError> {
        let device = self.binder_device.clone().map(Endpoint::Binder);
        match (self.transport, device) {
            (Some(TransportKind::Binder), Some(device)) => Ok(Some(device)),
            (Some(TransportKind::Binder), None) => "binder".parse().map(Some),
            (_, device) => Ok(self.socket.clone().map(Endpoint::Socket).or(device)),
        }
    }
}

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|word| word.parse::<LevelFilter>())
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn cgroup(text: &str) -> Result<WatchedCgroup, std::convert::Infallible> {
    Ok(match text {
        "own" => WatchedCgroup::Own,
        "none" => WatchedCgroup::None,
        directory => WatchedCgroup::Directory(directory.into()),
    })
}

/// Reason why a word of the command line is no valid value of its option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum WordError {
    #[error("the mode is {0:?}, but it must be octal, 0 to 0777")]
    Mode(String),
    #[error("the instance is {0:?}, but it must have 1 to 64 letters, digits, '_', '-' and '.'")]
    Instance(String),
    #[error("there is no group {0:?}")]
    NoGroup(String),
    /// The account database could not be read.
    #[error("cannot look up group {name:?}: {errno}")]
    Groups { name: String, errno: Errno },
}

fn socket_mode(text: &str) -> Result<u32, WordError> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| WordError::Mode(text.to_owned()))
}

fn instance(text: &str) -> Result<String, WordError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(WordError::Instance(text.to_owned()))
    }
}

fn group(text: &str) -> Result<Gid, WordError> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(WordError::NoGroup(text.to_owned())),
        Err(errno) => Err(WordError::Groups { name: text.to_owned(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_graphics_allocator_is_off_unless_asked_for() {
        let parsed = |words: &[&str]| {
            Arguments::try_parse_from([&["aniond"], words].concat())
                .map(|arguments| arguments.transport.graphics)
        };
        assert_eq!(parsed(&[]).expect("valid"), None);
        assert_eq!(parsed(&["--graphics"]).expect("valid").as_deref(), Some("default"));
        assert_eq!(parsed(&["--graphics=anion"]).expect("valid").as_deref(), Some("anion"));
        assert!(parsed(&["--graphics="]).is_err() && parsed(&["--graphics=a/b"]).is_err());
        assert!(parsed(&["--graphics-socket", "/s"]).is_err());
    }

    #[test]
    fn modes_are_octal_and_within_the_permission_bits() {
        assert_eq!(socket_mode("0660"), Ok(0o660));
        for bad in ["", "0888", "-1", "4755", "rw"] {
            assert!(socket_mode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cgroup_is_a_directory_or_one_of_two_words() {
        let parsed = |words: &[&str]| Arguments::try_parse_from(words).expect("valid").cgroup;
        assert_eq!(parsed(&["aniond"]), WatchedCgroup::Own);
        assert_eq!(parsed(&["aniond", "--cgroup", "none"]), WatchedCgroup::None);
        let directory = WatchedCgroup::Directory("/sys/fs/cgroup/video".into());
        assert_eq!(parsed(&["aniond", "--cgroup", "/sys/fs/cgroup/video"]), directory);
    }

    #[test]
    fn the_service_is_where_the_transport_is() {
        let endpoint = |words: &[&str]| {
            let arguments = Arguments::try_parse_from([&["aniond"], words].concat()).expect("valid");
            arguments.transport.endpoint().expect("named").map(|endpoint| endpoint.to_string())
        };
        assert_eq!(endpoint(&["--socket", "/s"]).as_deref(), Some("/s"));
        let both = ["--transport", "binder", "--socket", "/s", "--binder-device", "/b"];
        assert_eq!(endpoint(&both).as_deref(), Some("binder:/b"));
        assert_eq!(endpoint(&both[2..]).as_deref(), Some("/s"));
    }

    #[test]
    fn groups_are_numbers_or_names() {
        assert_eq!(group("44"), Ok(Gid::from_raw(44)));
        assert_eq!(group("root"), Ok(Gid::from_raw(0)));
        assert_eq!(group("no-such-group"), Err(WordError::NoGroup("no-such-group".to_owned())));
    }

    #[test]
    fn levels_are_read_in_any_case() {
        let parsed = Arguments::try_parse_from(["aniond", "--log-level", "DEBUG"]).expect("valid");
        assert_eq!(parsed.log_level, Some(LevelFilter::Debug));
        assert!(Arguments::try_parse_from(["aniond", "--log-level", "loud"]).is_err());
    }

    #[test]
    fn json_needs_something_to_report() {
        assert!(Arguments::try_parse_from(["aniond", "--json"]).is_err());
        let parsed = Arguments::try_parse_from(["aniond", "--check-config", "a.dts", "b.dtb", "--json"]);
        assert_eq!(parsed.expect("valid").check_config.len(), 2);
        assert!(Arguments::try_parse_from(["aniond", "--doctor", "--json"]).expect("valid").doctor);
        assert!(Arguments::try_parse_from(["aniond", "--doctor", "--check-config", "a.dts"]).is_err());
    }
}
