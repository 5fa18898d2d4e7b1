// SPDX-License-Identifier: Apache-2.0
//! Generates Rust from the `.aidl` files beside this script, with the version and the hash of the
//! platform's interface.

use std::path::PathBuf;

/// The frozen version of `android.hardware.graphics.allocator` that the files are.
const VERSION: i32 = 2;

/// Its hash, as every implementation of that version answers `getInterfaceHash`.
const HASH: &str = "9499fec09c544e9de5be3c87125721600f8ade66";

fn main() {
    println!("cargo:rerun-if-changed=android");
    let interface = PathBuf::from("android/hardware/graphics/allocator/IAllocator.aidl");
    let builder = rsbinder_aidl::Builder::new().source(interface).version(VERSION).hash(HASH);
    let builder = ["allocator", "common"].iter().fold(builder, |builder, package| {
        builder.source(PathBuf::from(format!("android/hardware/graphics/{package}")))
    });
    let builder = builder.source(PathBuf::from("android/hardware/common"));
    if let Err(error) = builder.output("android_hardware_graphics_allocator.rs").generate() {
        eprintln!("cannot compile the AIDL files: {error:?}");
        std::process::exit(1);
    }
}
