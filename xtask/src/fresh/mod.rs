// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask fresh`: runs README.md's commands on a machine that has only Debian 12 and Rust.

mod root;

use std::collections::BTreeSet;
use std::fmt;
use std::hint;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

pub(crate) use self::root::acquire_options;
use self::root::{Machine, Root};
use crate::process::{output_of, run as run_command};
use crate::readme::{self, Role};
use crate::server::Server;
use crate::tools::{cache_dir, is_root};

/// Run README.md's commands as a new user would, in a minimal Debian 12 with Rust that this command
/// builds (root only; takes about an hour)
#[derive(Debug, Args)]
pub(crate) struct FreshArgs {
    /// Run only this command: `serve`, with an allocation from the service, or `test`
    #[arg(long, value_name = "COMMAND")]
    only: Option<Part>,

    /// Keep the root afterwards, and print the command that enters it
    #[arg(long)]
    keep: bool,

    /// Create the root in this directory instead of the cache; creates the directory, and removes
    /// a root of an earlier run from it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Keep the machine busy during the run, with two loops for each core
    #[arg(long)]
    load: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Serve,
    Test,
}

/// The socket of a service that root starts without arguments.
const SOCKET: &str = "/run/anion/allocator.sock";

/// The file with the service's pid, in its machine.
const PID_FILE: &str = "/run/fresh.pid";

/// Creates the root, runs the commands in it and prints the results. An interruption leaves the
/// root's directory, but neither mounts nor processes.
///
/// # Errors
/// If this process is not root, the root cannot be created or a command fails.
pub(crate) fn run(args: &FreshArgs) -> Result<()> {
    ensure!(is_root(), "`cargo xtask fresh` creates a root with its own mounts: run it as root");
    let place = args.root.clone().map_or_else(|| cache_dir().map(|cache| cache.join("fresh")), Ok)?;
    if args.load {
        keep_busy();
    }
    let mut rows = Vec::new();
    println!("==> Debian 12 and Rust in {}", place.display());
    let start = Instant::now();
    let root = Root::make(&place)?;
    rows.push(Row { what: "root".to_owned(), took: start.elapsed(), is_ok: true });

    let machine = Machine::boot(&root)?;
    let before = packages(&machine)?;
    println!("the root has {} packages and an empty home directory", before.len());
    for (part, go) in [(Part::Serve, serve as fn(&Machine) -> Result<()>), (Part::Test, test)] {
        if args.only.is_some_and(|only| only != part) {
            continue;
        }
        let start = Instant::now();
        let result = go(&machine);
        if let Err(error) = &result {
            println!("{error:#}");
        }
        rows.push(Row { what: command_of(part)?, took: start.elapsed(), is_ok: result.is_ok() });
    }
    let after = packages(&machine)?;
    drop(machine);

    print_summary(&rows, &added(&before, &after));
    if args.keep {
        println!("the root is kept in {}; to enter it:\n  {}", root.path().display(), root.way_in());
    } else {
        root.remove()?;
    }
    let failed: Vec<_> = rows.iter().filter(|row| !row.is_ok).map(|row| row.what.as_str()).collect();
    ensure!(failed.is_empty(), "these commands fail on a fresh machine: {}", failed.join(", "));
    Ok(())
}

/// Returns the first of README.md's commands with this mark.
fn first_of(role: Role) -> Result<String> {
    let block = readme::blocks()?.into_iter().find(|block| block.role == role);
    let command = block.and_then(|block| block.commands.into_iter().next());
    command.with_context(|| format!("README.md has no command that is marked {role:?}"))
}

/// Returns the command of README.md for this part.
fn command_of(part: Part) -> Result<String> {
    first_of(match part {
        Part::Serve => Role::Serve,
        Part::Test => Role::Test,
    })
}

/// Starts the service, allocates from it with the command line, and stops it.
fn serve(machine: &Machine) -> Result<()> {
    let line = command_of(Part::Serve)?;
    println!("\n==> {line}");
    // A single command, which replaces its shell.
    let mut service = machine.shell(&format!("echo $$ >{PID_FILE}; exec {line}"));
    let server = Server::start(&mut service, &machine.file(SOCKET), readme::PATIENCE)?;
    let client = first_of(Role::Run)?;
    ensure!(client.contains("anionctl"), "README.md's first command for a client is `{client}`");
    println!("\n==> {client}");
    run_command(&mut machine.shell(&client)).with_context(|| format!("`{client}` failed"))?;
    // `nsenter` is the parent, and forwards no signals.
    server.stop_with(|| run_command(&mut machine.shell(&format!("kill -TERM $(cat {PID_FILE})"))))
}

fn test(machine: &Machine) -> Result<()> {
    let line = command_of(Part::Test)?;
    println!("\n==> {line}");
    let status = machine.shell(&line).status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Starts two loops for each core, which end with this program.
fn keep_busy() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("{} loops keep the {cores} cores of this machine busy", 2 * cores);
    for _ in 0..2 * cores {
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
}

/// Returns the packages that are installed on a machine.
fn packages(machine: &Machine) -> Result<BTreeSet<String>> {
    Ok(installed(&output_of(&mut machine.shell("dpkg --get-selections"))?))
}

/// Returns the names in the output of `dpkg --get-selections`.
fn installed(selections: &str) -> BTreeSet<String> {
    let pairs = selections.lines().filter_map(|line| line.split_once(char::is_whitespace));
    pairs.filter(|(_, state)| state.trim() == "install").map(|(name, _)| name.to_owned()).collect()
}

fn added<'a>(before: &'a BTreeSet<String>, after: &'a BTreeSet<String>) -> Vec<&'a str> {
    after.difference(before).map(String::as_str).collect()
}

/// The result of a step.
struct Row {
    what: String,
    took: Duration,
    is_ok: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_ok { "ok" } else { "FAILED" };
        write!(f, "{:<40} {word:<7}{:>8.1} s", self.what, self.took.as_secs_f64())
    }
}

fn print_summary(rows: &[Row], packages: &[&str]) {
    println!("\n{:<40} {:<7}{:>10}", "on a fresh machine", "result", "time");
    for row in rows {
        println!("{row}");
    }
    println!("\nthe commands installed {} packages: {}", packages.len(), packages.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_came_are_told_from_those_that_were_there() {
        let before = installed("bash\t\t\t\t\tinstall\nlibc6:amd64\t\t\tinstall\n");
        let after = installed("bash\t\tinstall\nbc\t\tdeinstall\nlibc6:amd64\tinstall\nm4\t\tinstall\n");
        assert_eq!(before.len(), 2);
        assert_eq!(added(&before, &after), ["m4"]);
    }

    #[test]
    fn the_readme_has_both_commands_and_one_for_a_client() {
        for command in [command_of(Part::Serve), command_of(Part::Test), first_of(Role::Run)] {
            let command = command.expect("README.md has it");
            assert!(command.starts_with("cargo "), "{command}");
        }
    }

    #[test]
    fn rows_show_result_and_time() {
        let row = Row { what: "root".to_owned(), took: Duration::from_millis(41_250), is_ok: false };
        assert_eq!(row.to_string(), format!("{:<40} FAILED     41.2 s", "root"));
    }
}
