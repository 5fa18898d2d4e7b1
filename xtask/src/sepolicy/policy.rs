// SPDX-License-Identifier: Apache-2.0
//! The policy's sources, and the compilers.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::compiled::Compiled;
use super::read;
use crate::process::{line_of, output_of};

/// What a tree or a product decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    /// It is a userdebug build, where the platform has rules for root's shell.
    pub(super) debuggable: bool,
    /// The platform does not label /dev/udmabuf, and the product adds `sepolicy/udmabuf`.
    pub(super) own_udmabuf: bool,
    /// memfds are of class `memfd_file`.
    pub(super) memfd_class: bool,
    /// Anion is the product's graphics allocator, and the product adds `sepolicy/graphics`.
    pub(super) graphics: bool,
}

impl Variant {
    /// The one with all of Anion's rules, but those that a graphics allocator needs in place of
    /// others.
    pub(super) const LARGEST: Self =
        Self { debuggable: true, own_udmabuf: true, memfd_class: true, graphics: false };

    /// The one with the fewest.
    pub(super) const SMALLEST: Self =
        Self { debuggable: false, own_udmabuf: false, memfd_class: false, graphics: false };

    pub(super) fn all() -> impl Iterator<Item = Self> {
        let plain = (0..8_u8).map(|bits| Self {
            debuggable: bits & 1 != 0,
            own_udmabuf: bits & 2 != 0,
            memfd_class: bits & 4 != 0,
            graphics: false,
        });
        let graphics = [Self::SMALLEST, Self::LARGEST].map(|variant| Self { graphics: true, ..variant });
        plain.chain(graphics)
    }

    /// Returns what m4 is told, as by `BOARD_SEPOLICY_M4DEFS`.
    fn definitions(self) -> [String; 4] {
        let build = if self.debuggable { "userdebug" } else { "user" };
        [
            format!("-Dtarget_build_variant={build}"),
            format!("-Dplatform_udmabuf={}", !self.own_udmabuf),
            format!("-Danion_memfd_class={}", self.memfd_class),
            format!("-Danion_graphics={}", self.graphics),
        ]
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choose = |is: bool, yes, no| if is { yes } else { no };
        write!(
            f,
            "a {} build where {} labels udmabuf, memfds are of class {}{}",
            choose(self.debuggable, "userdebug", "user"),
            choose(self.own_udmabuf, "Anion", "the platform"),
            choose(self.memfd_class, "memfd_file", "file"),
            choose(self.graphics, " and Anion is the graphics allocator", ""),
        )
    }
}

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
    /// Those of `sepolicy/udmabuf`.
    udmabuf: String,
    /// Those of `sepolicy/graphics`.
    graphics: String,
    /// What comes last.
    contexts: String,
}

impl Sources {
    pub(super) fn read(policy: &Path, platform: &Path) -> Result<Self> {
        let joined =
            |paths: [PathBuf; 2]| Ok::<_, anyhow::Error>([read(&paths[0])?, read(&paths[1])?].join("\n"));
        Ok(Self {
            platform: joined([platform.join("classes.conf"), platform.join("macros.m4")])?,
            macros: read(&policy.join("te_macros"))?,
            attributes: read(&policy.join("attributes"))?,
            types: read(&platform.join("types.te"))?,
            rules: rules_in(policy)?,
            udmabuf: rules_in(&policy.join("udmabuf"))?,
            graphics: rules_in(&policy.join("graphics"))?,
            contexts: joined([platform.join("contexts.conf"), policy.join("genfs_contexts")])?,
        })
    }

    /// Returns Anion's texts that have rules.
    fn texts(&self) -> [&str; 3] {
        [&self.macros, &self.rules, &self.udmabuf]
    }

    /// Returns the lines of `sepolicy/graphics` that give something to somebody.
    pub(super) fn graphics_rules(&self) -> Vec<String> {
        let calls = self.graphics.lines().filter(|line| line.ends_with(')'));
        calls.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Returns the lines that give something to somebody, or a label to something.
    pub(super) fn rules(&self) -> Vec<String> {
        let all = self.texts().into_iter().flat_map(str::lines).map(str::trim);
        let gives = |line: &&str| {
            let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            // A call's line that ends with a quote goes on.
            let is_call = line[word.len()..].starts_with('(') && word != "define" && line.ends_with(')');
            !word.is_empty() && (is_call || word.starts_with("allow") || word == "type_transition")
        };
        all.filter(gives).map(str::to_owned).collect()
    }

    /// Returns the `neverallow` statements, some of several lines.
    pub(super) fn bans(&self) -> Vec<String> {
        let of = |text: &str| -> Vec<String> {
            let starts = text.match_indices("\nneverallow ").map(|(at, _)| at + 1);
            starts.filter_map(|at| Some(text[at..].split_inclusive(';').next()?.to_owned())).collect()
        };
        self.texts().into_iter().flat_map(of).collect()
    }

    /// Returns the same without this text, wherever it is.
    pub(super) fn without(&self, text: &str) -> Self {
        let mut changed = self.clone();
        for part in [&mut changed.macros, &mut changed.rules, &mut changed.udmabuf, &mut changed.graphics] {
            *part = part.replace(text, "");
        }
        changed
    }

    /// Returns the same with one more line.
    pub(super) fn with(&self, line: &str) -> Self {
        let mut changed = self.clone();
        changed.rules = format!("{}\n{line}\n", changed.rules);
        changed
    }

    /// Returns the same with the rules of `sepolicy/udmabuf` always, also where they do not belong.
    pub(super) fn with_udmabuf(&self) -> Self {
        self.with(&self.udmabuf)
    }

    /// Compiles it as a whole, which checks the neverallows, to a file in `scratch`.
    ///
    /// # Errors
    /// What the compiler says.
    pub(super) fn compile(&self, variant: Variant, scratch: &Path) -> Result<PathBuf> {
        let (text, binary) = (self.expand(variant, scratch)?, scratch.join("policy.bin"));
        quietly(Command::new("checkpolicy").args(["-M", "-o"]).args([&binary, &text]))?;
        Ok(binary)
    }

    /// Compiles it, and reads what came of it.
    ///
    /// # Errors
    /// What the compiler says.
    pub(super) fn compiled(&self, variant: Variant, scratch: &Path) -> Result<Compiled> {
        Compiled::read(&self.compile(variant, scratch)?)
    }

    /// Compiles it the way that Android's build goes, which checks the neverallows once more.
    ///
    /// # Errors
    /// What the compilers say.
    pub(super) fn compile_by_cil(&self, variant: Variant, scratch: &Path) -> Result<()> {
        let (text, cil) = (self.expand(variant, scratch)?, scratch.join("policy.cil"));
        quietly(Command::new("checkpolicy").args(["-M", "-C", "-o"]).args([&cil, &text]))?;
        let (binary, contexts) = (scratch.join("cil.bin"), scratch.join("file_contexts"));
        quietly(
            Command::new("secilc").args(["-M", "true", "-o"]).arg(binary).arg("-f").args([&contexts, &cil]),
        )
    }

    /// Writes the policy as one text with its macros expanded.
    fn expand(&self, variant: Variant, scratch: &Path) -> Result<PathBuf> {
        let input = scratch.join("policy.m4");
        let udmabuf = if variant.own_udmabuf { self.udmabuf.as_str() } else { "" };
        let graphics = if variant.graphics { self.graphics.as_str() } else { "" };
        let (before, after) =
            ([&self.platform, &self.macros, &self.attributes, &self.types, &self.rules], &self.contexts);
        let whole = [&before.map(String::as_str).join("\n"), udmabuf, graphics, after].join("\n");
        fs::write(&input, whole).context("cannot write the policy")?;
        let text = scratch.join("policy.conf");
        let expanded = output_of(Command::new("m4").args(variant.definitions()).arg(&input))?;
        fs::write(&text, expanded).context("cannot write the policy")?;
        Ok(text)
    }
}

/// Returns the `.te` files of a directory, not of those in it, as Android's build takes them.
fn rules_in(directory: &Path) -> Result<String> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "te"));
    files.sort();
    ensure!(!files.is_empty(), "{} has no policy", directory.display());
    Ok(files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Runs a compiler; what it says is told only if it fails.
pub(super) fn quietly(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed: {}\n{said}", output.status);
    Ok(())
}
