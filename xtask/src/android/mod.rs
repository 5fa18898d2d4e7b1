// SPDX-License-Identifier: Apache-2.0
//! Checks the Android build as far as possible without an Android tree, and runs the commands for
//! the frozen API.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use self::aidl::{Aidl, PACKAGE};
use self::api::Api;
use crate::aidl_code;
use crate::needs::{ARCHIVE, BPFMT};
use crate::process::{output_of, run, workspace_root};
use crate::tally::Tally;
use crate::tools::ensure_tools;

mod aidl;
mod api;
mod blueprint;
mod check;
mod crates;
mod stubs;

pub(crate) use aidl::COMPILER;
pub(crate) use check::run_check as check;

/// The languages that aidl_interface enables.
const BACKENDS: [&str; 4] = ["rust", "ndk", "cpp", "java"];

/// Checks that Android's own parser accepts Android.bp, and that the file is formatted and sorted
/// as by its formatter.
///
/// # Errors
/// If it is not.
pub(crate) fn format(tally: &mut Tally) -> Result<()> {
    let mut command = Command::new("bpfmt");
    command.args(["-l", "-s", "Android.bp"]).current_dir(workspace_root());
    let output = command.output().context("cannot start bpfmt")?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "bpfmt: {}", complaints.trim());
    ensure!(output.stdout.is_empty(), "Android.bp is not formatted: run `bpfmt -w -s Android.bp`");
    *tally += Tally::one(true);
    Ok(())
}

/// Checks that AOSP's own compiler accepts the interface for every backend, that frozen versions
/// are unchanged, and that the committed Rust code equals the generated code.
///
/// # Errors
/// If a check fails.
pub(crate) fn interface(tally: &mut Tally) -> Result<()> {
    let root = workspace_root();
    let aidl = Aidl::find()?;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let api = Api { root, aidl: &aidl };
    let answer = api.answer()?;
    for backend in BACKENDS {
        let sources = root.join("aidl");
        aidl.compile(backend, &answer, (&sources, PACKAGE), &scratch.path().join(backend))?;
        println!("{backend}: compiled");
        *tally += Tally::one(true);
    }
    match api.verify()? {
        0 => println!("no version is frozen yet"),
        latest => println!("the frozen versions up to {latest} are unchanged"),
    }
    *tally += Tally::one(true);
    life_of_an_api(root, &aidl, tally)?;
    aidl_code::check(tally)
}

/// Freezes, changes and breaks a copy of the interface, and checks that faults are detected.
fn life_of_an_api(root: &Path, aidl: &Aidl, tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let copy = scratch.path();
    run(Command::new("cp").arg("-r").args(["aidl", "Android.bp"]).arg(copy).current_dir(root))?;
    let blueprint = fs::read_to_string(copy.join("Android.bp"))?;
    // The state before the first freeze.
    let unfrozen = without_versions(&blueprint);
    fs::write(copy.join("Android.bp"), unfrozen)?;
    let api = Api { root: copy, aidl };
    let reason = copy.join("aidl/vendor/anion/allocator/Verdict.aidl");
    let original = fs::read_to_string(&reason)?;
    let mut expect = |what: &str, holds: bool| {
        println!("{what}: {}", if holds { "yes" } else { "NO" });
        *tally += Tally::one(holds);
        ensure!(holds, "this check failed: {what}");
        Ok(())
    };

    expect("the first version can be frozen", api.freeze()? == 1 && api.verify()? == 1)?;
    let answer = api.answer()?;
    let listed = output_of(Command::new("bpfmt").args(["-l", "-s", "Android.bp"]).current_dir(copy))?;
    expect("Android.bp stays formatted", listed.is_empty())?;
    expect(
        "the interface returns this version and its hash",
        answer.version == 1 && answer.hash.len() == 40,
    )?;
    expect("an unchanged interface cannot be frozen again", api.freeze().is_err())?;
    let frozen = api.folder("1").join("vendor/anion/allocator/Verdict.aidl");
    let text = fs::read_to_string(&frozen)?;
    fs::write(&frozen, format!("{text}\n"))?;
    expect("a change of a frozen file is detected", api.verify().is_err())?;
    fs::write(&frozen, text)?;

    let added = original.trim_end().trim_end_matches('}').to_owned() + "    ADDED_LATER = 1000,\n}\n";
    fs::write(&reason, &added)?;
    expect("sources that differ from the frozen version are detected", api.verify().is_err())?;
    expect(
        "a compatible change can be frozen as the next version",
        api.freeze()? == 2 && api.verify()? == 2,
    )?;
    fs::write(&reason, &original)?;
    expect("an incompatible change is detected", api.verify().is_err() && api.freeze().is_err())
}

/// Returns Android.bp without frozen versions.
fn without_versions(blueprint: &str) -> String {
    let Some((before, after)) = blueprint.split_once("    versions_with_info: [") else {
        return blueprint.to_owned();
    };
    let rest = after.split_once("\n    ],\n").map_or(after, |(_, rest)| rest);
    format!("{before}{}", rest.replacen("frozen: true", "frozen: false", 1))
}

/// Runs `cargo xtask update-api`.
///
/// # Errors
/// The error of the compiler.
pub(crate) fn update_api() -> Result<()> {
    ensure_tools(ARCHIVE)?;
    Api { root: workspace_root(), aidl: &Aidl::find()? }.update()
}

/// Runs `cargo xtask freeze-api`.
///
/// # Errors
/// If the sources are not compatible with the last version, or equal it.
pub(crate) fn freeze_api() -> Result<()> {
    ensure_tools(&[ARCHIVE, BPFMT].concat())?;
    Api { root: workspace_root(), aidl: &Aidl::find()? }.freeze().map(drop)
}
