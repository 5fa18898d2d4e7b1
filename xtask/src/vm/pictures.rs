// SPDX-License-Identifier: Apache-2.0
//! Builds the programs of the steps with real devices: the examples in Rust and in C with a camera,
//! and the one with a display. They are built as the documents describe.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::guest::Course;
use super::initramfs::Initramfs;
use crate::libanion::{self, InstallArgs};
use crate::process::{run, workspace_root};
use crate::release;

/// The step with a camera.
pub(super) const STEP: &str = "pictures";
/// The step with a display.
pub(super) const DISPLAY: &str = "display";

/// Both steps, with longer films than usual.
pub(super) const ALONE: Course =
    Course::Only(&[&["devices", "hub", "serve-binder", STEP, DISPLAY, "stop-binder"]]);

/// Returns whether a course contains one of the steps.
pub(super) fn are_in(course: &Course) -> bool {
    [STEP, DISPLAY].iter().any(|step| course.includes(step))
}

/// Returns the programs by their names in `/bin`. Builds them if they are out of date.
///
/// # Errors
/// If one of them or the client library cannot be built.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 4]> {
    let display = release::build_example("display")?;
    let composer = release::build_example("composer")?;
    let rust = release::build_example("v4l2_capture")?;
    let c = compile(&rust.with_file_name("libanion"))?;
    Ok([("v4l2_capture", rust), ("capture", c), ("display", display), ("composer", composer)])
}

/// Adds the numbers of frames that the camera captures with the first heap and with each other
/// heap, and that the display shows of each.
pub(super) fn furnish(root: &mut Initramfs, is_alone: bool) {
    let frames = if is_alone { "300 60 60" } else { "60 15 5" };
    root.file("/etc/guest/frames", 0o644, frames);
}

/// Compiles the example in C with the static library, since guests have no other. Installs the
/// library to `prefix`.
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
