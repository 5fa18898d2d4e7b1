// SPDX-License-Identifier: Apache-2.0
//! Runs the commands of the README, to check that they work.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{leashed, workspace_root};
use crate::server::Server;
use crate::tally::Tally;

/// The action for a block of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves until it is stopped, during the blocks that follow.
    Serve,
    /// Every command must exit with 0.
    Run,
    /// The test command: this program runs under it, so it is only compared with CI's command.
    Test,
}

/// A fenced block of shell commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) role: Role,
    /// Line number of the fence, from 1.
    line: usize,
    /// The commands, with continued lines joined, without comments.
    pub(crate) commands: Vec<String>,
}

/// A command may have to build first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Returns the blocks of commands in README.md.
///
/// # Errors
/// If it cannot be read, or has a block that is not marked or has no command.
pub(crate) fn blocks() -> Result<Vec<Block>> {
    parse(&read("README.md")?)
}

/// Returns a file of the checkout.
fn read(name: &str) -> Result<String> {
    let path = workspace_root().join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs the README's commands in the checkout's root, with a private socket.
///
/// # Errors
/// If the README has an unmarked block or no commands, or a command fails.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let blocks = blocks()?;
    ensure!(blocks.iter().any(|block| block.role == Role::Serve), "README.md has no command that serves");
    ensure!(blocks.iter().any(|block| block.role == Role::Test), "README.md has no test command");
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let socket = scratch.path().join("allocator.sock");
    let mut servers = Vec::new();
    for block in &blocks {
        for command in &block.commands {
            let start = Instant::now();
            println!("$ {command}");
            match block.role {
                Role::Serve => Server::start(&mut shell(command, &socket), &socket, PATIENCE)
                    .map(|server| servers.push(server)),
                Role::Run => run_one(command, &socket),
                Role::Test => same_as_ci(command, &read(".ci/run")?),
            }
            .with_context(|| format!("README.md, block at line {}", block.line))?;
            *tally += Tally::one(true);
            println!("  ok ({:.1} s)", start.elapsed().as_secs_f64());
        }
    }
    servers.into_iter().try_for_each(Server::stop)
}

/// Returns a shell that runs a command line in the checkout's root.
fn shell(command: &str, socket: &Path) -> Command {
    // Bash executes a single command in its own process, so a server receives signals directly.
    let mut shell = leashed("bash");
    shell
        .args(["-c", command])
        .current_dir(workspace_root())
        .env("ANION_SOCKET", socket)
        .stdin(Stdio::null());
    shell
}

fn run_one(command: &str, socket: &Path) -> Result<()> {
    let status = shell(command, socket).status().context("cannot start bash")?;
    ensure!(status.success(), "`{command}`: {status}");
    Ok(())
}

/// Checks that CI runs the README's test command.
fn same_as_ci(command: &str, ci: &str) -> Result<()> {
    ensure!(
        ci.lines().any(|line| line.trim() == command),
        "`{command}` is the test command, but .ci/run does not run it"
    );
    Ok(())
}

/// Finds the fenced `sh` blocks and their actions: `<!-- readme: serve -->` (or `run`, or `test`)
/// must precede each, with only blank lines between.
fn parse(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut mark = None;
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
            // A block in another language must not follow a mark.
            if !["sh", "shell", "bash"].contains(&language.trim()) {
                ensure!(
                    mark.is_none(),
                    "README.md:{number}: a mark precedes this block, which has no shell commands"
                );
            } else {
                let role = mark.take().with_context(|| {
                    format!("README.md:{number}: this block needs a mark `<!-- readme: … -->` before it")
                })?;
                let commands = commands(&body);
                ensure!(!commands.is_empty(), "README.md:{number}: no command in this block");
                blocks.push(Block { role, line: number, commands });
            }
        } else if let Some(word) = line.strip_prefix("<!-- readme:").and_then(|rest| rest.strip_suffix("-->"))
        {
            ensure!(mark.is_none(), "README.md:{number}: the mark before this one has no block");
            mark = Some(match word.trim() {
                "serve" => Role::Serve,
                "run" => Role::Run,
                "test" => Role::Test,
                other => {
                    bail!("README.md:{number}: the mark is {other:?}, but it must be serve, run or test")
                }
            });
        } else if !line.is_empty() {
            ensure!(mark.is_none(), "README.md:{number}: the mark before this line has no block");
        }
    }
    ensure!(mark.is_none(), "README.md: the last mark has no block");
    Ok(blocks)
}

/// Returns the commands in the lines of a block: a backslash at the end continues a line; comments
/// and blank lines are skipped.
fn commands(body: &[&str]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut open = String::new();
    for line in body.iter().map(|line| line.trim()) {
        if open.is_empty() && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(start) => open.push_str(start),
            None => {
                open.push_str(line);
                commands.push(std::mem::take(&mut open));
            }
        }
    }
    commands.extend(Some(open).filter(|rest| !rest.is_empty()));
    commands
}

/// Returns all commands that are run.
#[cfg(test)]
pub(crate) fn commands_of(text: &str) -> Result<Vec<String>> {
    Ok(parse(text)?.into_iter().flat_map(|block| block.commands).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_found_in_order() {
        let text = "# Title\n<!-- readme: serve -->\n```sh\ncargo run\n```\n\n```text\nnot a command\n```\n\
            <!-- readme: run -->\n\n```sh\n# say\nfirst --long \\\n  --rest\n\nsecond\n```\n";
        let block = |role, line, commands: &[&str]| Block {
            role,
            line,
            commands: commands.iter().map(|&command| command.to_owned()).collect(),
        };
        assert_eq!(
            parse(text).expect("well-formed"),
            [block(Role::Serve, 3, &["cargo run"]), block(Role::Run, 12, &["first --long --rest", "second"])]
        );
    }

    #[test]
    fn a_block_that_would_not_be_run_is_an_error() {
        for (text, complaint) in [
            ("```sh\nls\n```\n", "README.md:1: this block needs a mark `<!-- readme"),
            ("```bash\nls\n```\n", "README.md:1: this block needs a mark `<!-- readme"),
            ("<!-- readme: run -->\n```sh\n# nothing\n```\n", "README.md:2: no command"),
            ("<!-- readme: walk -->\n", "the mark is \"walk\""),
            ("<!-- readme: run -->\nprose\n", "README.md:2: the mark before"),
            ("<!-- readme: run -->\n<!-- readme: run -->\n", "README.md:2: the mark before"),
            ("<!-- readme: run -->\n", "the last mark"),
            ("<!-- readme: run -->\n```text\nx\n```\n```sh\nls\n```\n", "README.md:2: a mark precedes"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_rust_that_is_needed_is_named() {
        let text = read("README.md").expect("readable");
        let needed = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or newer");
        assert!(text.contains(needed), "{needed} is not in README.md");
    }

    #[test]
    fn ci_must_run_the_test_command() {
        same_as_ci("cargo xtask test", "#!/bin/bash\nset -e\ncargo xtask test\n").expect("the same");
        same_as_ci("cargo test", "cargo xtask test\n").expect_err("another command");
    }

    #[test]
    fn a_failing_command_is_named() {
        let error = run_one("exit 3", Path::new("/nonexistent")).expect_err("it fails").to_string();
        assert!(error.contains("`exit 3`") && error.contains('3'), "{error}");
        run_one("test \"$ANION_SOCKET\" = /nonexistent", Path::new("/nonexistent"))
            .expect("the socket is passed");
    }
}
