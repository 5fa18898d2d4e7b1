// SPDX-License-Identifier: Apache-2.0
//! The command line: every command, flag and default.

mod values;

use crate::help;
use crate::image::ImageArgs;
#[cfg(not(soong))]
use crate::run::RunArgs;
use crate::users;
use anion_ipc::{Endpoint, EndpointError};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;
use values::{parse_duration, parse_interval, parse_mask, parse_size};

/// Allocate, inspect and account for buffers of the Anion allocator service
#[derive(Debug, Parser)]
#[command(
    name = "anionctl",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = help::SHORT,
    after_long_help = help::LONG
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Connect to the service over this Unix socket
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Global options")]
    socket: Option<PathBuf>,

    /// Connect to the service over kernel binder [default device: the machine's]
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        num_args = 0..=1,
        require_equals = true,
        value_hint = ValueHint::FilePath,
        help_heading = "Global options"
    )]
    binder: Option<Option<PathBuf>>,

    /// Print JSON instead of a table: sizes in bytes, stable keys
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    /// Log to standard error; -vv logs everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
}

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the heaps in the order in which the service tries them
    #[command(visible_alias = "heaps", after_long_help = help::LIST)]
    List,
    /// Allocate buffers, check them, and keep them or pass them on
    #[command(after_long_help = help::ALLOC)]
    Alloc(AllocArgs),
    /// Reserve buffers, which the service makes before a client requests them
    #[command(after_long_help = help::RESERVE)]
    Reserve(ReserveArgs),
    /// Show the counters of every heap
    #[command(after_long_help = help::STATS)]
    Stats,
    /// Show how much each client holds
    #[command(after_long_help = help::USAGE)]
    Usage(UsageArgs),
    /// Show which processes hold which buffers
    #[command(after_long_help = help::HOLDERS)]
    Holders(HoldersArgs),
    /// Identify buffers by inherited file descriptors
    #[command(after_long_help = help::DESCRIBE)]
    Describe(DescribeArgs),
    /// Show what alloc would do, heap by heap, without allocating
    #[command(after_long_help = help::EXPLAIN)]
    Explain(RequestArgs),
    /// Print the service's own report, as dumpsys shows it
    #[command(after_long_help = help::DUMP)]
    Dump(DumpArgs),
    /// Return pooled memory to the kernel, or to the memory set aside for its heap (privileged)
    #[command(after_long_help = help::TRIM)]
    Trim(TrimArgs),
    /// Show heaps and usage as they change, until Ctrl-C
    #[command(after_long_help = help::WATCH)]
    Watch(WatchArgs),
    /// Print counters as OpenMetrics text, or serve them on a socket
    #[command(after_long_help = help::METRICS)]
    Metrics(MetricsArgs),
    /// Record calls, occupancy and memory pressure for ui.perfetto.dev
    #[command(after_long_help = help::TRACE)]
    Trace(TraceArgs),
    /// Draw occupancy, pools, fragmentation and latencies as a page
    #[cfg(not(soong))]
    #[command(after_long_help = help::REPORT)]
    Report(ReportArgs),
    /// Show which heaps of the configuration this machine can serve, and what to change
    #[command(after_long_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// Run a program that opens /dev/ion or /dev/dma_heap/*, and serve these device nodes
    #[cfg(not(soong))]
    #[command(after_long_help = help::RUN)]
    Run(RunArgs),
    /// Print a completion script for a shell
    #[cfg(not(soong))]
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
    /// Print a manual page as troff
    #[cfg(not(soong))]
    #[command(after_long_help = help::MAN)]
    Man {
        /// The command to describe
        command: Option<String>,
        /// Write a page in Markdown for every command into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = ValueHint::DirPath)]
        pages: Option<PathBuf>,
    },
}

/// A request. The service checks the values, so that the user sees its answer.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Bytes of one buffer: 8M, 64KiB, 4096 (K, M, G count in 1024)
    #[arg(short, long, required_unless_present = "format", value_parser = parse_size)]
    pub(crate) size: Option<i64>,

    #[command(flatten)]
    pub(crate) image: ImageArgs,

    /// Number of equal buffers; one heap gives all of them, or the request fails
    #[arg(short, long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) count: i32,

    /// Heap name or alias; repeat to give more, tried in this order [default: all heaps by
    /// descending id]
    #[arg(long, value_name = "NAME", conflicts_with = "heap_mask")]
    pub(crate) heap: Vec<String>,

    /// Heap ids as a bit mask, such as 0x6 for the heaps 1 and 2; tried by descending id
    #[arg(long, value_name = "MASK", value_parser = parse_mask)]
    pub(crate) heap_mask: Option<u32>,

    /// Label shown in dumps: at most 31 printable ASCII characters
    #[arg(long, value_name = "LABEL", default_value = "anionctl")]
    pub(crate) name: String,

    /// Alignment of the memory in bytes: a power of two; 0 selects the heap's own
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    pub(crate) alignment: i64,

    /// Skip heaps that the CPU maps uncached
    #[arg(long)]
    pub(crate) cached: bool,

    /// Skip heaps whose buffers are not dma-bufs
    #[arg(long, visible_alias = "require-dma-buf")]
    pub(crate) dma_buf: bool,

    /// Request read-only descriptors
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// `anionctl alloc`.
#[derive(Debug, Args)]
pub(crate) struct AllocArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,

    /// Keep the buffers this long (60, 0.5, 5m), or until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration, conflicts_with = "exec")]
    pub(crate) hold: Option<Duration>,

    /// Execute COMMAND, which inherits the buffers as descriptors 3, 4, …; takes the rest of the
    /// line
    #[arg(
        long,
        value_name = "COMMAND",
        num_args = 1..,
        allow_hyphen_values = true,
        value_hint = ValueHint::CommandName
    )]
    pub(crate) exec: Vec<OsString>,
}

/// `anionctl reserve`.
#[derive(Debug, Args)]
pub(crate) struct ReserveArgs {
    /// Bytes of one buffer: 8M, 64KiB, 4096 (K, M, G count in 1024)
    #[arg(short, long, value_parser = parse_size)]
    pub(crate) size: i64,

    /// Number of equal buffers
    #[arg(short, long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) count: i32,

    /// Heap name or alias
    #[arg(long, value_name = "NAME")]
    pub(crate) heap: String,

    /// Keep the reservation this long (60, 0.5, 5m), or until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration)]
    pub(crate) hold: Option<Duration>,
}

/// `anionctl usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Show usage by process instead of by user
    #[arg(long)]
    pub(crate) processes: bool,
}

/// `anionctl holders`.
#[derive(Debug, Args)]
pub(crate) struct HoldersArgs {
    /// Show only the buffer with this inode number or id [default: all]
    #[arg(value_name = "INODE|ID")]
    pub(crate) buffer: Option<u64>,

    /// Print comma-separated values, sizes in bytes
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// `anionctl describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Number of an inherited descriptor; repeatable [default: all of ANION_FDS]
    #[arg(long, value_name = "N", num_args = 1.., value_parser = clap::value_parser!(RawFd).range(0..))]
    pub(crate) fd: Vec<RawFd>,
}

/// `anionctl dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Show only this heap, by name or alias
    #[arg(long, value_name = "NAME")]
    pub(crate) heap: Option<String>,

    /// Show only the buffers of this user, by uid or name
    #[arg(long, value_name = "USER", value_parser = users::uid)]
    pub(crate) uid: Option<u32>,
}

/// `anionctl trim`.
#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// Trim only this heap, by name or alias [default: all heaps]
    #[arg(long, value_name = "NAME")]
    pub(crate) heap: Option<String>,

    /// Return at least this many bytes [default: everything]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) bytes: Option<i64>,
}

/// `anionctl watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Time between two reports: 1s, 0.5, 200ms
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub(crate) interval: Duration,

    /// Stop after this many reports [default: at Ctrl-C]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// `anionctl metrics`.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Serve the counters over HTTP on this Unix socket, until Ctrl-C
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) listen: Option<PathBuf>,
}

/// `anionctl trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,

    /// Stop after this time: 10, 0.5, 5m [default: at Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) seconds: Option<Duration>,

    /// Begin with the past events of the service's journal
    #[arg(long)]
    pub(crate) past: bool,
}

/// `anionctl report`.
#[cfg(not(soong))]
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The page to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: PathBuf,
}

/// `anionctl doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Device tree that describes the heaps, as for aniond --config [default: that of aniond]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    #[cfg_attr(not(soong), arg(env = "ANION_CONFIG"))]
    pub(crate) config: Option<PathBuf>,

    /// Show every check, not only those that the configuration needs
    #[arg(long)]
    pub(crate) all: bool,
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Arguments, clap::Error> {
    let arguments = Arguments::try_parse()?;
    // clap does not apply this rule to global flags on both sides of the command.
    if arguments.global.socket.is_some() && arguments.global.binder.is_some() {
        return Err(Arguments::command()
            .error(ErrorKind::ArgumentConflict, "--socket and --binder cannot be used together"));
    }
    Ok(arguments)
}

impl Global {
    /// Returns the endpoint that the flags name; `None` if they name none.
    ///
    /// # Errors
    /// If `--binder` names no device and the machine has none.
    pub(crate) fn endpoint(&self) -> Result<Option<Endpoint>, EndpointError> {
        match (&self.socket, &self.binder) {
            (Some(path), _) => Ok(Some(Endpoint::Socket(path.clone()))),
            (None, Some(Some(device))) => Ok(Some(Endpoint::Binder(device.clone()))),
            (None, Some(None)) => "binder".parse().map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Returns the same flags in the form that the service's program takes.
    pub(crate) fn for_service(&self) -> Vec<OsString> {
        match (&self.socket, &self.binder) {
            (Some(path), _) => vec!["--transport".into(), "socket".into(), "--socket".into(), path.into()],
            (None, Some(Some(device))) => {
                vec!["--transport".into(), "binder".into(), "--binder-device".into(), device.into()]
            }
            (None, Some(None)) => vec!["--transport".into(), "binder".into()],
            (None, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn exec_takes_the_rest_of_the_line() {
        let line =
            ["anionctl", "alloc", "--size", "8M", "--exec", "sh", "-c", "exit 7", "--json", "--", "-v"];
        let Command::Alloc(alloc) = Arguments::try_parse_from(line).expect("valid").command else {
            panic!("alloc is the command");
        };
        assert_eq!(alloc.exec, line[5..].iter().map(OsString::from).collect::<Vec<_>>());
    }
}
