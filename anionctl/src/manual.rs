// SPDX-License-Identifier: Apache-2.0
//! Manual pages, made of the command line and its long texts.

use crate::args::Arguments;
use crate::failure::Failure;
use clap::CommandFactory;

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
