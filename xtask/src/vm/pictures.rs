// SPDX-License-Identifier: Apache-2.0
//! The programs of the step with real devices: the examples that have a camera fill buffers, in
//! Rust and in C, as the documents say that they are built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::libanion::{self, InstallArgs};
use crate::process::{run, workspace_root};
use crate::release;

/// The step.
pub(super) const STEP: &str = "pictures";

/// Returns the programs by their names in `/bin`, built where they are not up to date.
///
/// # Errors
/// If one of them or the client library cannot be built.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 2]> {
    let rust = release::build_example("v4l2_capture")?;
    let c = compile(&rust.with_file_name("libanion"))?;
    Ok([("v4l2_capture", rust), ("capture", c)])
}

/// Compiles the example in C with the static library, since guests have no other. The library is
/// installed to `prefix`.
fn compile(prefix: &Path) -> Result<PathBuf> {
    libanion::install(&InstallArgs { prefix: prefix.to_owned() })?;
    let program = prefix.join("capture");
    let mut include = OsString::from("-I");
    include.push(prefix.join("include"));
    run(Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args([include, "-I/usr/include/libdrm".into(), "-o".into()])
        .arg(&program)
        .arg(workspace_root().join("examples/c/capture.c"))
        .arg(prefix.join("lib/libanion.a"))
        .args(["-ldrm", "-lgcc_s", "-lpthread", "-ldl", "-lm"]))?;
    Ok(program)
}
