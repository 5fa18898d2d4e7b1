// SPDX-License-Identifier: Apache-2.0
//! Checks the dependencies of the client library: few crates, none of the service and no compiler.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The crates of the client library, without those of this workspace: dependencies, those of build
/// scripts and macros, and those of features that other packages of this workspace enable (errno,
/// rand_core).
const OF_THE_CLIENT: [&str; 25] = [
    "autocfg",
    "bitflags",
    "cfg-if",
    "cfg_aliases",
    "errno",
    "getrandom",
    "libc",
    "linux-raw-sys",
    "log",
    "memoffset",
    "nix",
    "pretty-hex",
    "proc-macro2",
    "quote",
    "rand_core",
    "rsbinder",
    "rsbinder-fmq",
    "rsproperties",
    "rustix",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "zerocopy",
    "zerocopy-derive",
];

/// The folder of the packages that replace the AIDL compiler.
const PREBUILT: &str = "aidl/prebuilt";

/// Returns cargo's metadata of this workspace for this target. On a new machine cargo downloads the
/// dependencies of packages that no test has built so far.
fn metadata() -> Value {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Returns the package of this name and all of its dependencies, except those of tests.
fn built_of<'a>(metadata: &'a Value, name: &str) -> Vec<&'a Value> {
    let packages: Vec<&Value> = list(metadata, "packages").collect();
    let root = packages.iter().find(|package| text(package, "name") == name).expect("a package");
    let mut open = vec![text(root, "id")];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        seen.insert(id);
        let node = list(&metadata["resolve"], "nodes").find(|node| text(node, "id") == id);
        let is_built =
            |dependency: &&Value| list(dependency, "dep_kinds").any(|kind| text(kind, "kind") != "dev");
        let next = list(node.expect("resolved"), "deps").filter(is_built).map(|next| text(next, "pkg"));
        open.extend(next.filter(|id| !seen.contains(id)));
    }
    packages.into_iter().filter(|package| seen.contains(text(package, "id"))).collect()
}

/// Returns the required Rust version of a package, with the package's name.
fn needs(package: &Value) -> Option<((u32, u32), &str)> {
    Some((version(package["rust_version"].as_str()?), text(package, "name")))
}

/// Returns major and minor version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn the_client_is_built_of_few_crates_and_without_a_compiler_of_aidl() {
    let metadata = metadata();
    let packages = built_of(&metadata, "anion-client");
    let others: BTreeSet<&str> = packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .map(|package| text(package, "name"))
        .collect();
    let unknown: Vec<_> = others.iter().filter(|name| !OF_THE_CLIENT.contains(*name)).collect();
    assert!(unknown.is_empty(), "the client library takes more crates than are listed: {unknown:?}");
    assert!(others.contains("rsbinder") && others.len() > 15, "{others:?}");
    for name in ["rsbinder-aidl", "miette"] {
        let package = packages.iter().find(|package| text(package, "name") == name).expect("rsbinder's");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(PREBUILT);
        assert!(Path::new(text(package, "manifest_path")).starts_with(folder), "{name} is the compiler's");
    }
    let of_the_service = ["anion", "anionctl", "rustutils", "winnow", "clap", "serde"];
    for package in &packages {
        assert!(!of_the_service.contains(&text(package, "name")), "{}", text(package, "name"));
    }
}

#[test]
fn the_client_says_the_lowest_rust_that_builds_it() {
    let metadata = metadata();
    let packages = built_of(&metadata, "anion-client");
    let others = packages.iter().copied().filter(|package| !package["source"].is_null());
    let (highest, setter) = others.filter_map(needs).max().expect("versions");
    for package in packages.iter().copied().filter(|package| package["source"].is_null()) {
        let (own, name) = needs(package).expect("packages of this workspace say one");
        assert_eq!(own, highest, "{name}, of which {setter} needs {highest:?}");
    }
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("text");
    let named = format!("needs Rust {}.{} ", highest.0, highest.1);
    assert!(readme.contains(&named), "README.md does not say: {named}");
}
