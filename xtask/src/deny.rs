// SPDX-License-Identifier: Apache-2.0
//! Checks the crates that the project links with cargo-deny, against `deny.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::aidl_code::COMPILER;
use crate::process::{cargo, cargo_home, find_program, path_with, run as run_command, workspace_root};
use crate::tally::Tally;
use crate::tools::{DENY, ensure_crate};

/// The directory of cargo-deny's copies of advisory databases, in cargo's home.
const DATABASES: &str = "advisory-dbs";

/// Checks bans, licences and sources; also advisories if this machine has a copy of their database.
/// It is not downloaded: the result would depend on the day, and not on the project.
///
/// # Errors
/// If cargo-deny cannot be built or a crate breaks a rule.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let checks = ["bans", "licenses", "sources"];
    check(&[], &checks, tally)?;
    match cargo_home().and_then(|home| database(&home)) {
        Some(copy) => {
            println!("advisories come from {}", copy.display());
            check(&["--offline"], &["advisories"], tally)
        }
        None => {
            println!(
                "advisories not checked: {DATABASES} in cargo's home has no copy of their database; to get one: \
                 cargo deny fetch db"
            );
            Ok(())
        }
    }
}

/// Returns the names of tools that the step would build into the cache.
pub(crate) fn unfetched(cache: &Path) -> Vec<String> {
    DENY.unbuilt(cache, None).filter(|_| find_program("cargo-deny").is_none()).into_iter().collect()
}

/// Runs these checks on the workspace and on the AIDL compiler, and counts each.
fn check(options: &[&str], checks: &[&str], tally: &mut Tally) -> Result<()> {
    for manifest in ["Cargo.toml", COMPILER] {
        let mut deny = cargo_deny()?;
        deny.args(["deny", "--all-features", "--config", "deny.toml", "--manifest-path", manifest]);
        deny.args(options).args(["check", "--hide-inclusion-graph"]).args(checks);
        run_command(deny.current_dir(workspace_root()))?;
        checks.iter().for_each(|_| *tally += Tally::one(true));
    }
    Ok(())
}

/// Returns `cargo`, with cargo-deny in its path. Builds it into the cache if it is not installed.
fn cargo_deny() -> Result<Command> {
    let mut command = cargo();
    if find_program("cargo-deny").is_none() {
        command.env("PATH", path_with(&ensure_crate(DENY)?));
    }
    Ok(command)
}

/// Returns the directory with a copy of an advisory database in this cargo home.
fn database(home: &Path) -> Option<PathBuf> {
    let dir = home.join(DATABASES);
    let has_one = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
    has_one.then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_no_database() {
        let home = tempfile::tempdir().expect("temporary directory");
        assert_eq!(database(home.path()), None);
        let dir = home.path().join(DATABASES);
        fs::create_dir(&dir).expect("created");
        assert_eq!(database(home.path()), None);
        fs::create_dir(dir.join("advisory-db-3157b0e258782691")).expect("created");
        assert_eq!(database(home.path()), Some(dir));
    }
}
