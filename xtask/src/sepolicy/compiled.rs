// SPDX-License-Identifier: Apache-2.0
//! Reads a compiled policy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::read;
use crate::process::{output_of, quietly};

/// Types, attributes and rules of a compiled policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    pub(super) types: BTreeSet<String>,
    /// The members of each attribute that has any.
    pub(super) attributes: BTreeMap<String, BTreeSet<String>>,
    /// `allow` rules.
    pub(super) allowed: BTreeSet<Rule>,
    /// `allowxperm` rules.
    pub(super) ioctls: BTreeSet<Rule>,
    /// `type_transition` rules.
    pub(super) labels: BTreeSet<Rule>,
}

/// One rule: source, target, class, and the permissions, numbers or the new type.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) class: String,
    pub(super) what: BTreeSet<String>,
}

impl Compiled {
    /// Reads `binary` from the compiler's text output, which takes a hundredth of setools' time.
    pub(super) fn read(binary: &Path) -> Result<Self> {
        let text = binary.with_extension("text");
        quietly(Command::new("checkpolicy").args(["-b", "-M", "-F", "-o"]).args([&text, binary]))?;
        Self::from_text(&read(&text)?)
    }

    /// Reads `binary` with setools, which share no code with the compiler.
    pub(super) fn read_with_setools(binary: &Path) -> Result<Self> {
        let rules = output_of(
            Command::new("sesearch").args(["--allow", "--allowxperm", "--type_trans"]).arg(binary),
        )?;
        let mut found = Self::from_text(&rules)?;
        let types = output_of(Command::new("seinfo").args(["-t", "-x"]).arg(binary))?;
        for line in types.lines().map(str::trim) {
            if let Some(declared) = line.strip_prefix("type ") {
                found.declare(declared.trim_end_matches(';'), ",");
            }
        }
        Ok(found)
    }

    fn from_text(text: &str) -> Result<Self> {
        let mut found = Self::default();
        for line in text.lines() {
            let (keyword, rest) = line.split_once(' ').unwrap_or_default();
            let rest = rest.trim_end_matches(';');
            match keyword {
                "type" => found.declare(rest, ","),
                "typeattribute" => found.declare(rest, " "),
                "allow" => _ = found.allowed.insert(rule(line)?),
                "allowxperm" => _ = found.ioctls.insert(rule(line)?),
                "type_transition" => _ = found.labels.insert(rule(line)?),
                _ => {}
            }
        }
        ensure!(!found.allowed.is_empty(), "the output of setools contains no allow rules");
        Ok(found)
    }

    /// Adds a type and the attributes that follow it.
    fn declare(&mut self, declared: &str, separator: &str) {
        let (kind, attributes) = declared.split_once(separator).unwrap_or((declared, ""));
        self.types.insert(kind.to_owned());
        for attribute in attributes.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            self.attributes.entry(attribute.to_owned()).or_default().insert(kind.to_owned());
        }
    }

    /// Returns whether `name` is `subject` or one of its attributes.
    pub(super) fn covers(&self, name: &str, subject: &str) -> bool {
        name == subject || self.attributes.get(name).is_some_and(|members| members.contains(subject))
    }
}

/// Parses `allow SOURCE TARGET:CLASS { WHAT … };`, with any keyword, or with one word instead of
/// the braces.
fn rule(line: &str) -> Result<Rule> {
    let not_understood = || format!("cannot parse this line of checkpolicy's output: {line}");
    let mut words = line.trim_end_matches(';').split_whitespace().skip(1);
    let source = words.next().with_context(not_understood)?.to_owned();
    let (target, class) = words.next().and_then(|word| word.split_once(':')).with_context(not_understood)?;
    let target = if target == "self" { &source } else { target }.to_owned();
    // In an allowxperm rule, its numbers follow this word.
    let is_noise =
        |word: &&str| ["{", "}"].contains(word) || (line.starts_with("allowxperm") && *word == "ioctl");
    let what = words.filter(|word| !is_noise(word)).map(str::to_owned).collect();
    Ok(Rule { source, target, class: class.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn rules_are_read_with_and_without_braces() {
        let read = rule("allow a b:file { open read };").expect("a rule");
        assert_eq!((read.source.as_str(), read.target.as_str(), read.class.as_str()), ("a", "b", "file"));
        assert_eq!(read.what, set(&["open", "read"]));
        assert_eq!(rule("allow a b:chr_file ioctl;").expect("a rule").what, set(&["ioctl"]));
        assert_eq!(rule("allow a self:fd { use };").expect("a rule").target, "a");
        let numbers = rule("allowxperm a b:chr_file ioctl { 0x4900-0x4901 0x4904 };").expect("a rule");
        assert_eq!(numbers.what, set(&["0x4900-0x4901", "0x4904"]));
        assert!(rule("allow").is_err());
    }

    #[test]
    fn both_ways_of_telling_a_type_s_attributes_are_read() {
        let rules = "allow a b:file read;\ntype_transition a b:file c;\n";
        let one = Compiled::from_text(&format!("type x;\ntypeattribute x one, two;\n{rules}"));
        let other = Compiled::from_text(&format!("type x, one, two;\n{rules}"));
        let one = one.expect("a policy");
        assert_eq!(one, other.expect("a policy"));
        assert_eq!(one.types, set(&["x"]));
        assert!(one.covers("one", "x") && one.covers("two", "x") && !one.covers("one", "a"));
        assert_eq!(one.labels.first().expect("a rule").what, set(&["c"]));
        assert!(Compiled::from_text("type x;\n").is_err(), "nothing was understood");
    }
}
