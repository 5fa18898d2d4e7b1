// SPDX-License-Identifier: Apache-2.0
//! Generates Rust from the `.aidl` files of Anion's interface and of Android's graphics allocator,
//! with the versions and the hashes that Soong would give them.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use rsbinder_aidl::Builder;

/// The folder of Anion's interface, and what its packages are below.
const OWN: &str = "../vendor/anion/allocator";

/// The packages of Android's graphics allocator.
const PLATFORM: &str = "../platform/android/hardware";

/// The frozen version of `android.hardware.graphics.allocator` that the files in [`PLATFORM`] are.
const PLATFORM_VERSION: i32 = 2;

/// Its hash, which `getInterfaceHash` of every implementation of that version returns.
const PLATFORM_HASH: &str = "9499fec09c544e9de5be3c87125721600f8ade66";

/// The hash of an interface that is not frozen, as AOSP's tools write it.
const UNFROZEN_HASH: &str = "notfrozen";

/// The file whose module of the interface declares it frozen or not.
const BLUEPRINT: &str = "../../Android.bp";

/// The frozen versions, a folder each.
const FROZEN: &str = "../../aidl_api/vendor.anion.allocator";

fn main() {
    if let Err(error) = generate_own().and_then(|()| generate_platform()) {
        eprintln!("cannot compile the AIDL files: {error}");
        std::process::exit(1);
    }
}

fn generate_own() -> Result<(), Box<dyn Error>> {
    // Cargo would treat a missing input as changed in every build. Freezing a version changes the
    // module, too.
    for input in [OWN, BLUEPRINT, FROZEN].into_iter().filter(|input| Path::new(input).exists()) {
        println!("cargo:rerun-if-changed={input}");
    }
    let (version, hash) = version_and_hash()?;
    let mut builder = Builder::new();
    for interface in interfaces(Path::new(OWN))? {
        builder = builder.source(interface).version(version).hash(&hash);
    }
    write(builder.source(OWN), "vendor_anion_allocator.rs")
}

fn generate_platform() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PLATFORM}");
    let platform = Path::new(PLATFORM);
    let interface = platform.join("graphics/allocator/IAllocator.aidl");
    let builder = Builder::new().source(interface).version(PLATFORM_VERSION).hash(PLATFORM_HASH);
    let packages = ["graphics/allocator", "graphics/common", "common"];
    let builder = packages.iter().fold(builder, |builder, package| builder.source(platform.join(package)));
    write(builder, "android_hardware_graphics_allocator.rs")
}

fn write(builder: Builder, name: &str) -> Result<(), Box<dyn Error>> {
    builder.output(name).generate().map_err(|error| format!("{error:?}").into())
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
