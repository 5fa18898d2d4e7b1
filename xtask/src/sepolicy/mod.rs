// SPDX-License-Identifier: Apache-2.0
//! The SELinux policy of `sepolicy/`, checked without Android: compiled over a platform in miniature
//! (`xtask/sepolicy/`), asked what it allows, and shown to need each of its rules.

mod policy;
mod questions;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use self::policy::{Compiled, Sources};
use self::questions::Question;
use crate::process::{output_of, workspace_root};
use crate::tally::Tally;
use crate::tools::{Tool, ensure_tools};

const TOOLS: [Tool; 6] = [
    Tool { program: "m4", package: "m4" },
    Tool { program: "checkpolicy", package: "checkpolicy" },
    Tool { program: "secilc", package: "secilc" },
    Tool { program: "sesearch", package: "setools" },
    Tool { program: "seinfo", package: "setools" },
    Tool { program: "selabel_lookup", package: "selinux-utils" },
];

/// What the service installs and uses, and its label's type.
const LABELS: [(&str, &str); 4] = [
    ("/vendor/bin/hw/vendor.anion.allocator-service", "hal_anion_default_exec"),
    ("/system/vendor/etc/anion/heaps.dtb", "anion_config_file"),
    ("/vendor/etc/anion", "anion_config_file"),
    ("/dev/udmabuf", "anion_udmabuf_device"),
];

/// Runs all checks.
///
/// # Errors
/// With the first answer that is not the expected one.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    ensure_tools(&TOOLS)?;
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let expected = read(&own("expected.txt"))?;
    let questions: Vec<Question> = lines(&expected).map(str::parse).collect::<Result<_>>()?;
    let sources = Sources::read(&workspace_root().join("sepolicy"), &own(""))?;
    let compiled = sources.compile(scratch.path())?;
    sources.compile_by_cil(scratch.path())?;
    for question in &questions {
        question.check(&compiled).with_context(|| format!("expected.txt: {question}"))?;
        *tally += Tally::one(true);
    }
    println!("{} questions are answered as expected", questions.len());
    contexts(&compiled, tally)?;
    every_rule_is_needed(&sources, &questions, scratch.path(), tally)?;
    every_ban_holds(&sources, scratch.path(), tally)
}

fn own(name: &str) -> std::path::PathBuf {
    workspace_root().join("xtask/sepolicy").join(name)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Labels name types that exist, and libselinux finds them for what is installed.
fn contexts(compiled: &Compiled, tally: &mut Tally) -> Result<()> {
    let directory = workspace_root().join("sepolicy");
    for name in ["file_contexts", "genfs_contexts", "property_contexts", "service_contexts"] {
        let text = read(&directory.join(name))?;
        for line in lines(&text) {
            let context = line.split_whitespace().find_map(|word| word.strip_prefix("u:object_r:"));
            let kind = context.and_then(|context| context.strip_suffix(":s0"));
            let kind = kind.with_context(|| format!("{name}: no context u:object_r:TYPE:s0 in: {line}"))?;
            ensure!(compiled.types.contains(kind), "{name}: there is no type {kind}");
            *tally += Tally::one(true);
        }
    }
    for (path, kind) in LABELS {
        let mut lookup = Command::new("selabel_lookup");
        lookup.args(["-b", "file", "-k", path, "-f"]).arg(directory.join("file_contexts"));
        let found = output_of(&mut lookup)?;
        ensure!(found.trim().ends_with(&format!("u:object_r:{kind}:s0")), "{path} is labelled: {found}");
        *tally += Tally::one(true);
    }
    Ok(())
}

/// Without any one of its rules, the policy does not compile or some answer is wrong.
fn every_rule_is_needed(
    sources: &Sources,
    questions: &[Question],
    scratch: &Path,
    tally: &mut Tally,
) -> Result<()> {
    let rules = sources.rules();
    ensure!(rules.len() > 20, "only {} rules were found", rules.len());
    for rule in &rules {
        let noticed = match sources.without(rule).compile(scratch) {
            Ok(compiled) => questions.iter().any(|question| question.check(&compiled).is_err()),
            Err(_) => true,
        };
        ensure!(noticed, "nothing in expected.txt misses the rule: {rule}");
        *tally += Tally::one(true);
    }
    println!("each of {} rules is missed when it is not there", rules.len());
    Ok(())
}

/// What must not be added cannot be, and each neverallow stops something.
fn every_ban_holds(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let text = read(&own("violations.txt"))?;
    let violations: Vec<&str> = lines(&text).collect();
    for violation in &violations {
        match sources.with(violation).compile(scratch) {
            Ok(_) => bail!("no neverallow stops: {violation}"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains("neverallow"), "{violation} is stopped by another error:\n{error}");
            }
        }
        *tally += Tally::one(true);
    }
    let bans = sources.bans();
    for ban in &bans {
        let without = sources.without(ban);
        let is_needed = violations.iter().any(|violation| without.with(violation).compile(scratch).is_ok());
        ensure!(is_needed, "nothing in violations.txt is stopped by this alone: {ban}");
        *tally += Tally::one(true);
    }
    println!(
        "{} violations are refused; each of {} neverallows is needed for it",
        violations.len(),
        bans.len()
    );
    Ok(())
}
