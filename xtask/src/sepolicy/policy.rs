// SPDX-License-Identifier: Apache-2.0
//! The policy's sources, and what they compile to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::read;
use crate::process::{line_of, output_of};

/// The sources, with which checks can do what they like.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// Classes and macros of the platform in miniature.
    platform: String,
    /// Anion's macros.
    macros: String,
    attributes: String,
    /// Types and rules of the platform in miniature.
    types: String,
    /// Anion's types and rules.
    rules: String,
    /// What comes last.
    contexts: String,
}

/// What the compiled policy says.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) types: BTreeSet<String>,
    /// Members of each attribute.
    pub(super) attributes: BTreeMap<String, BTreeSet<String>>,
    /// `allow` rules.
    pub(super) allowed: Vec<Rule>,
    /// `allowxperm` rules.
    pub(super) ioctls: Vec<Rule>,
}

/// One rule: source, target, class, and the permissions or numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) class: String,
    pub(super) what: BTreeSet<String>,
}

impl Sources {
    pub(super) fn read(policy: &Path, platform: &Path) -> Result<Self> {
        let entries = fs::read_dir(policy).with_context(|| format!("cannot list {}", policy.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "te"));
        files.sort();
        let rules = files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.join("\n");
        let joined =
            |paths: [PathBuf; 2]| Ok::<_, anyhow::Error>([read(&paths[0])?, read(&paths[1])?].join("\n"));
        Ok(Self {
            platform: joined([platform.join("classes.conf"), platform.join("macros.m4")])?,
            macros: read(&policy.join("te_macros"))?,
            attributes: read(&policy.join("attributes"))?,
            types: read(&platform.join("types.te"))?,
            rules,
            contexts: joined([platform.join("contexts.conf"), policy.join("genfs_contexts")])?,
        })
    }

    /// The lines that give something to somebody.
    pub(super) fn rules(&self) -> Vec<String> {
        let all = self.macros.lines().chain(self.rules.lines()).map(str::trim);
        let gives = |line: &&str| {
            let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let is_call = line[word.len()..].starts_with('(') && word != "define";
            !word.is_empty() && (is_call || word.starts_with("allow"))
        };
        all.filter(gives).map(str::to_owned).collect()
    }

    /// The `neverallow` statements, some of several lines.
    pub(super) fn bans(&self) -> Vec<String> {
        let starts = self.rules.match_indices("\nneverallow ").map(|(at, _)| at + 1);
        starts.filter_map(|at| Some(self.rules[at..].split_inclusive(';').next()?.to_owned())).collect()
    }

    /// The same without this text, wherever it is.
    pub(super) fn without(&self, text: &str) -> Self {
        let mut changed = self.clone();
        changed.macros = changed.macros.replace(text, "");
        changed.rules = changed.rules.replace(text, "");
        changed
    }

    /// The same with one more line.
    pub(super) fn with(&self, line: &str) -> Self {
        let mut changed = self.clone();
        changed.rules = format!("{}\n{line}\n", changed.rules);
        changed
    }

    /// Compiles it as a whole, which checks the neverallows, and reads what came of it.
    ///
    /// # Errors
    /// What the compiler says.
    pub(super) fn compile(&self, scratch: &Path) -> Result<Compiled> {
        let (text, binary) = (self.expand(scratch)?, scratch.join("policy.bin"));
        quietly(Command::new("checkpolicy").args(["-M", "-o"]).args([&binary, &text]))?;
        Compiled::read(&binary)
    }

    /// Compiles it the way that Android's build goes, which checks the neverallows once more.
    ///
    /// # Errors
    /// What the compilers say.
    pub(super) fn compile_by_cil(&self, scratch: &Path) -> Result<()> {
        let (text, cil) = (self.expand(scratch)?, scratch.join("policy.cil"));
        quietly(Command::new("checkpolicy").args(["-M", "-C", "-o"]).args([&cil, &text]))?;
        let (binary, contexts) = (scratch.join("cil.bin"), scratch.join("file_contexts"));
        quietly(
            Command::new("secilc").args(["-M", "true", "-o"]).arg(binary).arg("-f").args([&contexts, &cil]),
        )
    }

    /// Writes the policy as one text with its macros expanded.
    fn expand(&self, scratch: &Path) -> Result<PathBuf> {
        let input = scratch.join("policy.m4");
        let parts =
            [&self.platform, &self.macros, &self.attributes, &self.types, &self.rules, &self.contexts];
        let whole = parts.map(String::as_str).join("\n");
        fs::write(&input, whole).context("cannot write the policy")?;
        let text = scratch.join("policy.conf");
        let expanded = output_of(Command::new("m4").arg(&input))?;
        fs::write(&text, expanded).context("cannot write the policy")?;
        Ok(text)
    }
}

/// Runs a compiler; what it says is told only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed: {}\n{said}", output.status);
    Ok(())
}

impl Compiled {
    fn read(binary: &Path) -> Result<Self> {
        let types = output_of(Command::new("seinfo").arg(binary).arg("-t"))?;
        let types = types.lines().filter(|line| line.starts_with("   ")).map(|line| line.trim().to_owned());
        let types = types.collect();
        let members = output_of(Command::new("seinfo").arg(binary).args(["-a", "-x"]))?;
        let search = |kind: &str| -> Result<Vec<Rule>> {
            let found = output_of(Command::new("sesearch").arg(kind).arg(binary))?;
            found.lines().filter(|line| !line.is_empty()).map(rule).collect()
        };
        Ok(Self {
            types,
            attributes: attributes(&members),
            allowed: search("--allow")?,
            ioctls: search("--allowxperm")?,
        })
    }

    /// Whether `name` is `subject` or an attribute that it has.
    pub(super) fn covers(&self, name: &str, subject: &str) -> bool {
        name == subject || self.attributes.get(name).is_some_and(|members| members.contains(subject))
    }
}

/// What `seinfo -a -x` prints: attributes, their members below them, deeper indented.
fn attributes(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("attribute ") {
            name.trim_end_matches(';').clone_into(&mut current);
            found.entry(current.clone()).or_default();
        } else if line.starts_with('\t') {
            found.entry(current.clone()).or_default().insert(line.trim().to_owned());
        }
    }
    found
}

/// What `sesearch` prints: `allow SOURCE TARGET:CLASS { WHAT … };` or with one word instead of the braces.
fn rule(line: &str) -> Result<Rule> {
    let not_understood = || format!("sesearch printed: {line}");
    let mut words = line.trim_end_matches(';').split_whitespace().skip(1);
    let source = words.next().with_context(not_understood)?.to_owned();
    let (target, class) = words.next().and_then(|word| word.split_once(':')).with_context(not_understood)?;
    // What follows it in an allowxperm rule are its numbers.
    let is_noise =
        |word: &&str| ["{", "}"].contains(word) || (line.starts_with("allowxperm") && *word == "ioctl");
    let what = words.filter(|word| !is_noise(word)).map(str::to_owned).collect();
    Ok(Rule { source, target: target.to_owned(), class: class.to_owned(), what })
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
        let numbers = rule("allowxperm a b:chr_file ioctl { 0x4900-0x4901 0x4904 };").expect("a rule");
        assert_eq!(numbers.what, set(&["0x4900-0x4901", "0x4904"]));
        assert!(rule("allow").is_err());
    }

    #[test]
    fn members_belong_to_the_attribute_above_them() {
        let found = attributes("Type Attributes: 2\n   attribute a;\n\tx\n\ty\n   attribute b;\n");
        assert_eq!(found["a"], set(&["x", "y"]));
        assert!(found["b"].is_empty());
    }
}
