// SPDX-License-Identifier: Apache-2.0
//! Tests with a binder stack that shares no code with the service's: libgbinder and its tools from
//! a Debian suite, and a small client that is compiled against them. They come with the loader and
//! the C library of their suite, since the other programs of the guest are those of the running
//! Debian.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::initramfs::{Initramfs, read};
use crate::debian::{Bundle, SID, Tree};
use crate::process::{run, workspace_root};

/// The programs, the headers, and packages with the libraries below.
pub(super) const STACK: Bundle = Bundle {
    name: "libgbinder",
    suite: &SID,
    // Without dependencies: those of the header packages include half a desktop.
    with_dependencies: &[],
    alone: &[
        "libatomic1",
        "libc6",
        "libffi8",
        "libgbinder-dev",
        "libgbinder-tools",
        "libgbinder1",
        "libgio-2.0-dev",
        "libglib2.0-0t64",
        "libglib2.0-dev",
        "libglibutil-dev",
        "libglibutil1",
        "libpcre2-8-0",
    ],
};

/// The libraries that the programs load.
const LIBRARIES: [&str; 10] = [
    LOADER,
    "libatomic.so.1",
    "libc.so.6",
    "libffi.so.8",
    "libgbinder.so.1",
    "libglib-2.0.so.0",
    "libglibutil.so.1",
    "libgobject-2.0.so.0",
    "libm.so.6",
    "libpcre2-8.so.0",
];
const LOADER: &str = "ld-linux-x86-64.so.2";

/// The tools that the guest's script runs.
const TOOLS: [&str; 2] = ["binder-list", "binder-ping"];

/// The folder of libraries in Debian's packages, for the guests' only architecture.
const LIBRARY_DIRECTORY: &str = "usr/lib/x86_64-linux-gnu";

/// The version of Android whose service manager `rsb_hub` behaves like.
const CONFIGURATION: &str = "[General]\nApiLevel = 36\n";

/// Adds the programs to `/foreign/bin`, their libraries to `/foreign/lib`, and their configuration.
///
/// # Errors
/// If a package is unavailable, or the client cannot be compiled.
pub(super) fn furnish(root: &mut Initramfs, cache: &Path) -> Result<()> {
    let stack = STACK.obtain(cache)?;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let client = scratch.path().join("allocate");
    compile(&stack, &client)?;
    root.file("/etc/gbinder.conf", 0o644, CONFIGURATION);
    root.file("/foreign/bin/allocate", 0o755, read(&client)?);
    for tool in TOOLS {
        let program = stack.path("usr/bin").join(tool);
        root.file(Path::new("/foreign/bin").join(tool), 0o755, read(&program)?);
    }
    for library in LIBRARIES {
        let file = stack.path(LIBRARY_DIRECTORY).join(library);
        root.file(Path::new("/foreign/lib").join(library), 0o755, read(&file)?);
    }
    Ok(())
}

/// Compiles the client with this machine's compiler. Dependencies of the libraries are resolved
/// only in the guest.
fn compile(stack: &Tree, program: &Path) -> Result<()> {
    let libraries = stack.path(LIBRARY_DIRECTORY);
    let include = |directory: PathBuf| {
        let mut option = OsString::from("-I");
        option.push(directory);
        option
    };
    let headers = ["gbinder", "gutil", "glib-2.0"].map(|name| include(stack.path("usr/include").join(name)));
    run(Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .args(headers)
        .arg(include(libraries.join("glib-2.0/include")))
        .arg("-o")
        .arg(program)
        .arg(workspace_root().join("xtask/foreign/allocate.c"))
        .arg("-L")
        .arg(libraries)
        .args(["-l:libgbinder.so.1", "-l:libglib-2.0.so.0"])
        .arg("-Wl,--unresolved-symbols=ignore-in-shared-libs"))
}
