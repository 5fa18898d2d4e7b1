// SPDX-License-Identifier: Apache-2.0
//! Runs every command of docs/observability.md and docs/for-hal.md, and compares docs/commands/
//! with the program's help.

mod common;

use common::Daemon;
use common::anionctl::{ANIONCTL, Holder, anionctl};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag};
use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::Command;

/// Returns the lines in a page's command blocks.
fn commands(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let page = std::fs::read_to_string(page).expect("the page");
    let mut lines = Vec::new();
    let mut events = Parser::new(&page);
    while let Some(event) = events.next() {
        if matches!(event, Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(own))) if &*own == "sh")
            && let Some(Event::Text(text)) = events.next()
        {
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines
}

/// Runs every command of a page while a client holds a buffer.
fn run_all(page: &str) {
    let daemon = Daemon::start(&[]);
    let (_held, _) = Holder::start(&daemon, &["--size", "64K", "--name", "preview"]);
    let commands = commands(page);
    assert!(commands.len() >= 5, "{commands:?}");
    let beside = Path::new(ANIONCTL).parent().expect("a folder");
    let path = format!("{}:{}", beside.display(), env::var("PATH").expect("text"));
    for line in commands {
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(daemon.directory());
        command.env("ANION_SOCKET", daemon.socket()).env("PATH", &path);
        let output = command.output().expect("sh starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {} {error}", output.status);
    }
}

#[test]
fn every_command_of_the_page_on_observation_runs() {
    run_all("observability.md");
}

#[test]
fn every_command_of_the_page_for_hals_runs() {
    run_all("for-hal.md");
}

/// Returns the texts of a directory's files by name.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().expect("text");
        (name, std::fs::read_to_string(entry.path()).expect("text"))
    };
    entries.map(|entry| read(entry.expect("readable"))).collect()
}

#[test]
fn the_pages_of_commands_are_those_of_the_program() {
    let made = tempfile::tempdir().expect("made");
    anionctl().env_remove("ANION_CONFIG").args(["man", "--pages"]).arg(made.path()).assert().success();
    let made = files(made.path());
    let kept = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands"));
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, page) in &made {
        assert!(kept[name] == *page, "docs/commands/{name} is old: anionctl man --pages docs/commands");
        assert!(page.lines().all(|line| line.chars().count() <= 140), "{name}");
    }
}
