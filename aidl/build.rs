// SPDX-License-Identifier: Apache-2.0
//! Generates Rust from the `.aidl` files beside this script.

use std::path::PathBuf;

/// The interface is not frozen yet; AOSP's tools use this word for that state.
const UNFROZEN_HASH: &str = "notfrozen";

fn main() {
    let package = PathBuf::from("vendor/anion/allocator");
    println!("cargo:rerun-if-changed=vendor");
    let generated = rsbinder_aidl::Builder::new()
        .source(package.join("IHeapAllocator.aidl"))
        .version(1)
        .hash(UNFROZEN_HASH)
        .source(package)
        .output("vendor_anion_allocator.rs")
        .generate();
    if let Err(error) = generated {
        eprintln!("cannot compile the AIDL files: {error:?}");
        std::process::exit(1);
    }
}
