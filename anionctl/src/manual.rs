// SPDX-License-Identifier: Apache-2.0
//! Generates manual pages from the command line and its long texts.

use crate::args::Arguments;
use crate::failure::Failure;
use clap::CommandFactory;
use std::fs;
use std::path::Path;

/// Returns the manual page of `anionctl`, or of one of its commands.
///
/// # Errors
/// [`Failure::Usage`] if there is no such command.
pub(crate) fn page(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut all = Arguments::command();
    all.build();
    let subject = match command {
        None => &all,
        Some(name) => all
            .find_subcommand(name)
            .ok_or_else(|| Failure::Usage(format!("there is no command {name:?}")))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(subject.clone())
        .render(&mut text)
        .map_err(|error| Failure::local("cannot make the manual page", &error))?;
    Ok(text)
}

/// Columns of the help in Markdown pages, independent of the terminal.
const COLUMNS: usize = 100;

/// Writes a Markdown page for every command, and a page that lists them, into a directory.
///
/// # Errors
/// [`Failure::Local`] if a file cannot be written.
pub(crate) fn write_pages(directory: &Path) -> Result<(), Failure> {
    for (name, page) in pages() {
        let file = directory.join(format!("{name}.md"));
        fs::write(&file, page)
            .map_err(|error| Failure::local(&format!("cannot write {}", file.display()), &error))?;
    }
    Ok(())
}

/// Returns the pages by name: one for each command, and `README` with the list of them.
fn pages() -> Vec<(String, String)> {
    let mut all = Arguments::command().term_width(COLUMNS);
    all.build();
    let mut index =
        "# Commands of anionctl\n\nMade of the program's own help: `anionctl man --pages docs/commands`.\n\n\
                     | command | |\n|---|---|\n"
            .to_owned();
    let mut pages = Vec::new();
    for command in all.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        index += &format!("| [{name}]({name}.md) | {about} |\n");
        let help = command.render_long_help().to_string();
        let lines: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        pages.push((name.clone(), format!("# anionctl {name}\n\n```text\n{lines}```\n")));
    }
    pages.push(("README".to_owned(), index));
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page() {
        for command in Arguments::command().get_subcommands().map(clap::Command::get_name) {
            let page = String::from_utf8(page(Some(command)).expect("a page")).expect("text");
            assert!(page.contains("SYNOPSIS"), "{command}");
        }
        assert_eq!(page(Some("nonsense")).expect_err("no command").exit_code(), 2);
    }
}
