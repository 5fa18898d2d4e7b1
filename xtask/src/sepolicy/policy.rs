// SPDX-License-Identifier: Apache-2.0
//! Builds the policy from its sources with the compilers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::compiled::Compiled;
use super::read;
use super::release::Variant;
use crate::process::{output_of, quietly};

/// A copy of the sources, which checks can change.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// Classes, constraints and macros of the platform's model, and its public types.
    public: String,
    /// Its private types and rules.
    private: String,
    /// A product's own types and rules.
    product: String,
    /// The platform's contexts, which come last.
    contexts: String,
    /// Anion's macros.
    macros: String,
    /// Anion's types and rules.
    rules: String,
    /// Those of `sepolicy/udmabuf-until-16-qpr1`.
    declared_udmabuf: String,
    /// Those of `sepolicy/udmabuf-from-16-qpr2`.
    platform_udmabuf: SystemExt,
    /// Those of `sepolicy/ion-until-17`.
    ion: String,
    /// Those of `sepolicy/graphics`.
    graphics: String,
    /// Anion's labels, which come last.
    labels: String,
}

/// The folders of `sepolicy/udmabuf-from-16-qpr2`.
#[derive(Debug, Clone)]
struct SystemExt {
    public: String,
    private: String,
    vendor: String,
}

/// The set of sources that is compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The vendor's policy, which sees only the platform's public policy.
    Vendor,
    /// The whole policy, as on a device.
    Whole,
}

impl Sources {
    pub(super) fn read(policy: &Path, platform: &Path) -> Result<Self> {
        let joined = |names: &[&str]| {
            let texts: Result<Vec<_>> = names.iter().map(|name| read(&platform.join(name))).collect();
            Ok::<_, anyhow::Error>(texts?.join("\n"))
        };
        let system_ext = policy.join("udmabuf-from-16-qpr2");
        Ok(Self {
            public: joined(&["classes.conf", "macros.m4", "public.te"])?,
            private: joined(&["private.te"])?,
            product: joined(&["product.te"])?,
            contexts: joined(&["contexts.conf"])?,
            macros: read(&policy.join("te_macros"))?,
            rules: [read(&policy.join("attributes"))?, rules_in(policy)?].join("\n"),
            declared_udmabuf: rules_in(&policy.join("udmabuf-until-16-qpr1"))?,
            platform_udmabuf: SystemExt {
                public: read(&system_ext.join("public/attributes"))?,
                private: rules_in(&system_ext.join("private"))?,
                vendor: rules_in(&system_ext.join("vendor"))?,
            },
            ion: rules_in(&policy.join("ion-until-17"))?,
            graphics: rules_in(&policy.join("graphics"))?,
            labels: read(&policy.join("genfs_contexts"))?,
        })
    }

    /// Returns Anion's texts with rules for a variant.
    fn texts(&self, variant: Variant) -> Vec<&str> {
        let SystemExt { private, vendor, .. } = &self.platform_udmabuf;
        let texts: [(&str, bool); 7] = [
            (&self.macros, true),
            (&self.rules, true),
            (&self.declared_udmabuf, variant.declares_udmabuf()),
            (private, variant.uses_platform_udmabuf()),
            (vendor, variant.uses_platform_udmabuf()),
            (&self.ion, variant.uses_ion()),
            (&self.graphics, variant.graphics),
        ];
        texts.into_iter().filter_map(|(text, is_taken)| is_taken.then_some(text)).collect()
    }

    /// Returns the lines with a permission or a label.
    pub(super) fn rules(&self, variant: Variant) -> Vec<String> {
        let all = self.texts(variant).into_iter().flat_map(str::lines).map(str::trim);
        let gives = |line: &&str| {
            let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            // A call's line that ends with a quote continues.
            let is_call = line[word.len()..].starts_with('(') && word != "define" && line.ends_with(')');
            let is_rule = word.starts_with("allow") || ["type_transition", "typeattribute"].contains(&word);
            !word.is_empty() && (is_call || is_rule)
        };
        // Without the attribute itself, nothing that names it compiles.
        all.filter(gives).filter(|line| *line != "hal_attribute(anion)").map(str::to_owned).collect()
    }

    /// Returns the `neverallow` statements, some of which have several lines.
    pub(super) fn bans(&self, variant: Variant) -> Vec<String> {
        let of = |text: &str| -> Vec<String> {
            let starts = text.match_indices("\nneverallow ").map(|(at, _)| at + 1);
            starts.filter_map(|at| Some(text[at..].split_inclusive(';').next()?.to_owned())).collect()
        };
        self.texts(variant).into_iter().flat_map(of).collect()
    }

    /// Returns a copy in which `to` replaces every `from`, and whether `from` occurs.
    pub(super) fn replaced(&self, from: &str, to: &str) -> (Self, bool) {
        let mut changed = self.clone();
        let SystemExt { public, private, vendor } = &mut changed.platform_udmabuf;
        let parts = [
            &mut changed.macros,
            &mut changed.rules,
            &mut changed.declared_udmabuf,
            public,
            private,
            vendor,
            &mut changed.ion,
            &mut changed.graphics,
        ];
        let mut is_anywhere = false;
        for part in parts {
            is_anywhere |= part.contains(from);
            *part = part.replace(from, to);
        }
        (changed, is_anywhere)
    }

    /// Returns a copy without this text.
    pub(super) fn without(&self, text: &str) -> Self {
        self.replaced(text, "").0
    }

    /// Returns a copy with one more line of the vendor's.
    pub(super) fn with(&self, line: &str) -> Self {
        let mut changed = self.clone();
        changed.rules = format!("{}\n{line}\n", changed.rules);
        changed
    }

    /// Returns a copy with the rules of `sepolicy/udmabuf-until-16-qpr1` for every variant, also
    /// the wrong ones.
    pub(super) fn with_declared_udmabuf(&self) -> Self {
        self.with(&self.declared_udmabuf)
    }

    /// Returns a copy with the rules for the guest's own programs.
    pub(super) fn for_guest(&self, guest: &str) -> Self {
        let mut changed = self.clone();
        changed.product = format!("{}\n{guest}\n", changed.product);
        changed
    }

    /// Compiles only the vendor's part over the platform's public policy, as Android's build does.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(super) fn compile_vendor(&self, variant: Variant, scratch: &Path) -> Result<()> {
        let (text, cil) = (self.expand(Part::Vendor, variant, scratch)?, scratch.join("vendor.cil"));
        quietly(Command::new("checkpolicy").args(["-M", "-C", "-o"]).args([&cil, &text])).map(drop)
    }

    /// Compiles the whole policy to a file in `scratch`, which checks the neverallows.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(super) fn compile(&self, variant: Variant, scratch: &Path) -> Result<PathBuf> {
        let (text, binary) = (self.expand(Part::Whole, variant, scratch)?, scratch.join("policy.bin"));
        quietly(Command::new("checkpolicy").args(["-M", "-c30", "-o"]).args([&binary, &text]))?;
        Ok(binary)
    }

    /// Compiles the whole policy, and reads the result.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(super) fn compiled(&self, variant: Variant, scratch: &Path) -> Result<Compiled> {
        Compiled::read(&self.compile(variant, scratch)?)
    }

    /// Compiles it by way of CIL, as Android's build does, which checks the neverallows once more.
    ///
    /// # Errors
    /// The errors of the compilers.
    pub(super) fn compile_by_cil(&self, variant: Variant, scratch: &Path) -> Result<()> {
        let (text, cil) = (self.expand(Part::Whole, variant, scratch)?, scratch.join("policy.cil"));
        quietly(Command::new("checkpolicy").args(["-M", "-C", "-o"]).args([&cil, &text]))?;
        let (binary, contexts) = (scratch.join("cil.bin"), scratch.join("file_contexts"));
        let mut secilc = Command::new("secilc");
        secilc.args(["-M", "true", "-o"]).arg(binary).arg("-f").args([&contexts, &cil]);
        quietly(&mut secilc).map(drop)
    }

    /// Writes a part of the policy as one text with expanded macros.
    fn expand(&self, part: Part, variant: Variant, scratch: &Path) -> Result<PathBuf> {
        let SystemExt { public, private, .. } = &self.platform_udmabuf;
        let is_whole = part == Part::Whole;
        let before: [(&str, bool); 3] =
            [(&self.public, true), (public, variant.uses_platform_udmabuf()), (&self.private, is_whole)];
        let mut texts: Vec<&str> =
            before.into_iter().filter_map(|(text, is_taken)| is_taken.then_some(text)).collect();
        let of_anion = self.texts(variant).into_iter();
        texts.extend(of_anion.filter(|text| is_whole || *text != private.as_str()));
        texts.extend([&self.product, &self.contexts, &self.labels].map(String::as_str));
        let text = scratch.join("policy.conf");
        let expanded = macros_expanded(&texts.join("\n"), variant, scratch)?;
        fs::write(&text, expanded).context("cannot write the policy")?;
        Ok(text)
    }
}

/// Returns a text with its macros expanded by the definitions of a variant.
///
/// # Errors
/// The error of m4.
pub(super) fn macros_expanded(text: &str, variant: Variant, scratch: &Path) -> Result<String> {
    let input = scratch.join("policy.m4");
    fs::write(&input, text).context("cannot write the policy")?;
    output_of(Command::new("m4").args(variant.definitions()).arg(&input))
}

/// Returns the text of the `.te` files of a directory.
fn rules_in(directory: &Path) -> Result<String> {
    let files = te_files(directory)?;
    ensure!(!files.is_empty(), "{} has no policy", directory.display());
    Ok(files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Returns the `.te` files of a directory without its subdirectories, as Android's build does.
pub(super) fn te_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "te"));
    files.sort();
    Ok(files)
}
