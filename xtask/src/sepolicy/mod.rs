// SPDX-License-Identifier: Apache-2.0
//! The SELinux policy of `sepolicy/`, checked without Android: compiled over a platform in
//! miniature (`xtask/sepolicy/`), asked what it allows, and shown to need each of its rules.

mod compiled;
mod labels;
mod policy;
mod questions;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use self::compiled::Compiled;
use self::policy::{Sources, Variant};
use self::questions::Question;
use crate::process::workspace_root;
use crate::tally::Tally;

/// Runs all checks.
///
/// # Errors
/// With the first answer that is not the expected one.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let sources = Sources::read(&workspace_root().join("sepolicy"), &own(""))?;
    for variant in Variant::all() {
        answers(&sources, variant, scratch.path(), tally).with_context(|| format!("in {variant}"))?;
    }
    two_labels_do_not_compile(&sources, scratch.path(), tally)?;
    every_rule_is_needed(&sources, scratch.path(), tally)?;
    every_ban_holds(&sources, scratch.path(), tally)
}

fn own(name: &str) -> std::path::PathBuf {
    workspace_root().join("xtask/sepolicy").join(name)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Returns the lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the lines of these files of this folder.
fn lines_of(names: &[&str]) -> Result<Vec<String>> {
    let texts = names.iter().map(|name| read(&own(name))).collect::<Result<Vec<_>>>()?;
    Ok(texts.iter().flat_map(|text| lines(text)).map(str::to_owned).collect())
}

/// Returns what is asked of a variant.
fn questions(variant: Variant) -> Result<Vec<Question>> {
    let files: &[(&str, bool)] = &[
        ("expected.txt", true),
        ("expected-memfd.txt", variant.memfd_class),
        ("expected-graphics.txt", variant.graphics),
    ];
    let asked: Vec<&str> = files.iter().filter(|(_, is_asked)| *is_asked).map(|(name, _)| *name).collect();
    lines_of(&asked)?.iter().map(|line| line.parse()).collect()
}

/// Checks that the variant compiles both ways, says what it should, and its labels name what it
/// has.
fn answers(sources: &Sources, variant: Variant, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let binary = sources.compile(variant, scratch)?;
    sources.compile_by_cil(variant, scratch)?;
    let compiled = Compiled::read(&binary)?;
    // Slow, so that the others go by the compiler's word, which these two prove to be setools'.
    if [Variant::LARGEST, Variant::SMALLEST].contains(&variant) {
        let by_setools = Compiled::read_with_setools(&binary)?;
        ensure!(by_setools == compiled, "setools and the compiler read different policies");
        *tally += Tally::one(true);
    }
    let questions = questions(variant)?;
    for question in &questions {
        question.check(&compiled).with_context(|| format!("expected of it: {question}"))?;
        *tally += Tally::one(true);
    }
    println!("{variant}: {} questions are answered as expected", questions.len());
    labels::check(&compiled, variant, scratch, tally)
}

/// Checks that the compiler refuses `sepolicy/udmabuf` on a platform that labels the device itself.
fn two_labels_do_not_compile(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let variant = Variant { own_udmabuf: false, ..Variant::LARGEST };
    let Err(error) = sources.with_udmabuf().compile(variant, scratch) else {
        bail!("the platform's type of udmabuf and Anion's compile together");
    };
    let error = format!("{error:#}");
    ensure!(
        error.contains("udmabuf_device"),
        "two types of udmabuf are refused for another reason:\n{error}"
    );
    *tally += Tally::one(true);
    Ok(())
}

/// Checks that without any one of its rules, the policy does not compile or some answer is wrong.
fn every_rule_is_needed(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let questions = questions(Variant::LARGEST)?;
    let rules = sources.rules();
    ensure!(rules.len() > 20, "only {} rules were found", rules.len());
    for rule in &rules {
        let noticed = match sources.without(rule).compiled(Variant::LARGEST, scratch) {
            Ok(compiled) => questions.iter().any(|question| question.check(&compiled).is_err()),
            Err(_) => true,
        };
        ensure!(noticed, "nothing that is expected misses the rule: {rule}");
        *tally += Tally::one(true);
    }
    println!("each of {} rules is missed when it is not there", rules.len());
    let variant = Variant { graphics: true, ..Variant::LARGEST };
    let (rules, questions) = (sources.graphics_rules(), self::questions(variant)?);
    ensure!(rules.len() == 2, "{} rules of a graphics allocator were found", rules.len());
    for rule in &rules {
        let compiled = sources.without(rule).compiled(variant, scratch)?;
        let noticed = questions.iter().any(|question| question.check(&compiled).is_err());
        ensure!(noticed, "nothing that is expected misses the rule: {rule}");
        *tally += Tally::one(true);
    }
    Ok(())
}

/// Checks that what must not be added cannot be, and that each neverallow stops something.
fn every_ban_holds(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let violations = lines_of(&["violations.txt", "violations-memfd.txt", "violations-udmabuf.txt"])?;
    for violation in &violations {
        match sources.with(violation).compile(Variant::LARGEST, scratch) {
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
        let is_needed = violations
            .iter()
            .any(|violation| without.with(violation).compile(Variant::LARGEST, scratch).is_ok());
        ensure!(is_needed, "nothing in violations*.txt is stopped by this alone: {ban}");
        *tally += Tally::one(true);
    }
    println!(
        "{} violations are refused; each of {} neverallows is needed for it",
        violations.len(),
        bans.len()
    );
    Ok(())
}
