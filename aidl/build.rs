// SPDX-License-Identifier: Apache-2.0
//! Generates Rust from the `.aidl` files beside this script, with the version and the hash that
//! Soong would give them.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// What AOSP's tools call the hash of an interface that may still change.
const UNFROZEN_HASH: &str = "notfrozen";

/// Where the module of the interface says whether it is frozen.
const BLUEPRINT: &str = "../Android.bp";

/// The frozen versions, a folder each.
const FROZEN: &str = "../aidl_api/vendor.anion.allocator";

fn main() {
    if let Err(error) = generate() {
        eprintln!("cannot compile the AIDL files: {error}");
        std::process::exit(1);
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    // A missing input would be a changed one for ever; whatever freezes a version changes the
    // module, too.
    for input in ["vendor", BLUEPRINT, FROZEN].into_iter().filter(|input| Path::new(input).exists()) {
        println!("cargo:rerun-if-changed={input}");
    }
    let package = PathBuf::from("vendor/anion/allocator");
    let (version, hash) = version_and_hash()?;
    let mut builder = rsbinder_aidl::Builder::new();
    for interface in interfaces(&package)? {
        builder = builder.source(interface).version(version).hash(&hash);
    }
    let generated = builder.source(package).output("vendor_anion_allocator.rs").generate();
    generated.map_err(|error| format!("{error:?}").into())
}

/// Returns the files that declare an interface: their names begin with an I and another capital.
fn interfaces(package: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(package)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let mut letters = name.chars();
        if letters.next() == Some('I') && letters.next().is_some_and(char::is_uppercase) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns version and hash: those of the last frozen version if Android.bp says that the sources
/// are it; else the next version, which has no hash yet.
fn version_and_hash() -> Result<(i32, String), Box<dyn Error>> {
    let mut last = 0;
    for entry in fs::read_dir(FROZEN).into_iter().flatten() {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        last = last.max(number.unwrap_or(0));
    }
    if fs::read_to_string(BLUEPRINT)?.contains("frozen: false") {
        return Ok((last + 1, UNFROZEN_HASH.to_owned()));
    }
    let hash = fs::read_to_string(format!("{FROZEN}/{last}/.hash"))?;
    Ok((last, hash.trim().to_owned()))
}
