// SPDX-License-Identifier: Apache-2.0
//! Checks the SELinux policy of `sepolicy/` without Android: compiles it with a small model of the
//! platform (`xtask/sepolicy/`), queries the permissions, and checks that each of its rules is
//! needed.

mod compiled;
mod faults;
mod guest;
mod labels;
mod levels;
mod policy;
mod questions;
mod real;
mod release;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use self::compiled::Compiled;
pub(crate) use self::guest::for_guest;
use self::policy::Sources;
use self::questions::Question;
pub(crate) use self::real::{RealArgs, compile as compile_real};
use self::release::{ANDROID_17, RELEASES, Variant};
use crate::process::workspace_root;
use crate::tally::Tally;

/// Runs all checks.
///
/// # Errors
/// With the first answer that differs from the expected one.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let sources = Sources::read(&workspace_root().join("sepolicy"), &own(""))?;
    for variant in Variant::all() {
        answers(&sources, variant, scratch.path(), tally).with_context(|| format!("in {variant}"))?;
    }
    faults::are_found(&sources, scratch.path(), tally)?;
    every_rule_is_needed(&sources, scratch.path(), tally)?;
    every_ban_holds(&sources, scratch.path(), tally)
}

fn own(name: &str) -> std::path::PathBuf {
    workspace_root().join("xtask/sepolicy").join(name)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Returns the lines that are neither empty nor comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the lines of these files of this folder.
fn lines_of(names: &[&str]) -> Result<Vec<String>> {
    let texts = names.iter().map(|name| read(&own(name))).collect::<Result<Vec<_>>>()?;
    Ok(texts.iter().flat_map(|text| lines(text)).map(str::to_owned).collect())
}

/// Returns the questions for a variant.
fn questions(variant: Variant) -> Result<Vec<Question>> {
    let files: &[(&str, bool)] = &[
        ("expected.txt", true),
        ("expected-udmabuf.txt", variant.switches),
        ("expected-ion.txt", variant.uses_ion()),
        ("expected-memfd.txt", variant.uses_memfd_class()),
        ("expected-graphics.txt", variant.graphics),
        ("expected-plain.txt", !variant.graphics),
    ];
    let asked: Vec<&str> = files.iter().filter(|(_, is_asked)| *is_asked).map(|(name, _)| *name).collect();
    lines_of(&asked)?.iter().map(|line| line.parse()).collect()
}

/// Checks that the variant compiles in both ways and meets the expectations, and that its
/// labels name its types.
fn answers(sources: &Sources, variant: Variant, scratch: &Path, tally: &mut Tally) -> Result<()> {
    sources.compile_vendor(variant, scratch)?;
    let binary = sources.compile(variant, scratch)?;
    sources.compile_by_cil(variant, scratch)?;
    let compiled = Compiled::read(&binary)?;
    // Slow, so the others rely on the compiler's text, which these two compare with setools.
    if [Variant::full(&ANDROID_17), Variant::base(RELEASES[0])].contains(&variant) {
        let by_setools = Compiled::read_with_setools(&binary)?;
        ensure!(by_setools == compiled, "setools and checkpolicy read different rules from one policy");
        *tally += Tally::one(true);
    }
    let questions = questions(variant)?;
    for question in &questions {
        question
            .check(&compiled)
            .with_context(|| format!("the policy violates the expectation {question}"))?;
        *tally += Tally::one(true);
    }
    let mut count = questions.len();
    if variant.graphics {
        count += levels::check(&binary, &lines_of(&["expected-levels.txt"])?)?;
    }
    println!("{variant}: {count} expectations hold");
    labels::check(&compiled, variant, scratch, tally)
}

/// Checks that without any one of its rules, the policy does not compile, or violates an
/// expectation.
fn every_rule_is_needed(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let graphics = Variant { graphics: true, ..Variant::full(&ANDROID_17) };
    let mut checked = BTreeSet::new();
    for variant in Variant::LARGEST.into_iter().chain([graphics]) {
        let questions = questions(variant)?;
        for rule in sources.rules(variant) {
            if !checked.insert(rule.clone()) {
                continue;
            }
            let noticed = match sources.without(&rule).compiled(variant, scratch) {
                Ok(compiled) => questions.iter().any(|question| question.check(&compiled).is_err()),
                Err(_) => true,
            };
            ensure!(noticed, "in {variant}, all expectations hold without the rule: {rule}");
            *tally += Tally::one(true);
        }
    }
    ensure!(checked.len() > 30, "the policy has only {} rules, more than 30 are expected", checked.len());
    println!("each of {} rules is needed", checked.len());
    Ok(())
}

/// Checks that forbidden rules are refused, and that each neverallow prevents something.
fn every_ban_holds(sources: &Sources, scratch: &Path, tally: &mut Tally) -> Result<()> {
    let [of_17, of_16] = Variant::LARGEST;
    let own = |variant, names: &[&str]| {
        Ok::<_, anyhow::Error>(lines_of(names)?.into_iter().map(move |line| (variant, line)))
    };
    let violations: Vec<(Variant, String)> = own(of_16, &["violations.txt", "violations-udmabuf.txt"])?
        .chain(own(of_17, &["violations-memfd.txt"])?)
        .collect();
    for (variant, violation) in &violations {
        let error = sources.with(violation).compile(*variant, scratch).err();
        let error = error.with_context(|| format!("no neverallow refuses the rule: {violation}"))?;
        let error = format!("{error:#}");
        ensure!(error.contains("neverallow"), "the rule {violation} causes another error:\n{error}");
        *tally += Tally::one(true);
    }
    let bans: BTreeSet<String> = Variant::LARGEST.iter().flat_map(|&variant| sources.bans(variant)).collect();
    for ban in &bans {
        let without = sources.without(ban);
        let compiles = |(variant, violation): &(Variant, String)| {
            without.with(violation).compile(*variant, scratch).is_ok()
        };
        ensure!(
            violations.iter().any(compiles),
            "no rule of violations*.txt is refused by this neverallow alone: {ban}"
        );
        *tally += Tally::one(true);
    }
    println!(
        "the neverallows refuse all {} violations, and each of {} neverallows is needed",
        violations.len(),
        bans.len()
    );
    Ok(())
}
