// SPDX-License-Identifier: Apache-2.0
//! Checks the combined permissions of types and levels with the compiler's own computation, which
//! applies the constraints as the kernel does.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// One line of `expected-levels.txt`.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    is_allowed: bool,
    source: &'a str,
    target: &'a str,
    class: &'a str,
    permissions: BTreeSet<&'a str>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [answer, source, target, class, permissions @ ..] = words.as_slice() else {
            bail!("the line has fewer than four words: {line}")
        };
        ensure!(["allow", "deny"].contains(answer), "the line begins with neither allow nor deny: {line}");
        ensure!(!permissions.is_empty(), "the line names no permission: {line}");
        let permissions = permissions.iter().copied().collect();
        Ok(Self { is_allowed: *answer == "allow", source, target, class, permissions })
    }

    fn is_answered_by(&self, granted: &BTreeSet<&str>) -> bool {
        if self.is_allowed {
            self.permissions.is_subset(granted)
        } else {
            self.permissions.is_disjoint(granted)
        }
    }
}

/// Checks that `binary` has the expected answer to each line. Returns the number of lines.
///
/// # Errors
/// With the first different answer, or the compiler's failure.
pub(super) fn check(binary: &Path, lines: &[String]) -> Result<usize> {
    let lines = lines.iter().map(|line| Line::read(line)).collect::<Result<Vec<_>>>()?;
    let contexts: Vec<&str> = lines.iter().flat_map(|line| [line.source, line.target]).collect();
    let ask_number = |context: &&str| format!("2\n{context}\n");
    let numbering: String = contexts.iter().map(ask_number).collect();
    let said = ask(binary, &format!("{numbering}q\n"))?;
    let numbers: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("sid ")).map(str::trim).collect();
    ensure!(numbers.len() == contexts.len(), "the policy lacks some of the contexts:\n{said}");
    let computing: String = lines
        .iter()
        .zip(numbers.chunks(2))
        .map(|(line, pair)| format!("0\n{}\n{}\n{}\n", pair[0], pair[1], line.class))
        .collect();
    let said = ask(binary, &format!("{numbering}{computing}q\n"))?;
    let answers: Vec<BTreeSet<&str>> = said.lines().filter_map(granted).collect();
    ensure!(
        answers.len() == lines.len(),
        "checkpolicy answered {} of {} questions:\n{said}",
        answers.len(),
        lines.len()
    );
    for (line, answer) in lines.iter().zip(&answers) {
        ensure!(
            line.is_answered_by(answer),
            "this line of expected-levels.txt does not hold: {line:?}; the policy permits {answer:?}"
        );
    }
    Ok(lines.len())
}

/// Parses `allowed { … }`, which follows its question or is on a line of its own.
fn granted(line: &str) -> Option<BTreeSet<&str>> {
    let words = line.trim().strip_prefix("allowed {")?.strip_suffix('}')?;
    Some(words.split_whitespace().collect())
}

/// Runs the compiler's menu with these inputs.
fn ask(binary: &Path, choices: &str) -> Result<String> {
    let mut compiler = Command::new("checkpolicy")
        .args(["-M", "-b", "-d"])
        .arg(binary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start checkpolicy")?;
    let mut input = compiler.stdin.take().context("checkpolicy has no input")?;
    // It reads all input before its output pipe can fill up, since there are few inputs.
    input.write_all(choices.as_bytes()).context("cannot write to checkpolicy")?;
    drop(input);
    let output = compiler.wait_with_output().context("cannot wait for checkpolicy")?;
    ensure!(output.status.success(), "checkpolicy -d failed: {}", output.status);
    String::from_utf8(output.stdout).context("the output of checkpolicy is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_answered_by_all_or_nothing_of_what_they_name() {
        let allow = Line::read("allow a:s0 b:s0 file read write").expect("a line");
        let deny = Line::read("deny a:s0 b:s0 file read write").expect("a line");
        let both = granted("allowed { read write map }").expect("an answer");
        let one = granted("allowed { read }").expect("an answer");
        let none = granted("allowed { }").expect("an answer");
        assert!(allow.is_answered_by(&both) && !allow.is_answered_by(&one));
        assert!(deny.is_answered_by(&none) && !deny.is_answered_by(&one));
        for bad in ["allow a b file", "permit a b file read", ""] {
            assert!(Line::read(bad).is_err(), "{bad:?}");
        }
    }
}
