// SPDX-License-Identifier: Apache-2.0
//! Builds, installs and tests `libanion`, the client library for C and C++, with libdmabufheap and
//! libion, and libanion-preload for unmodified programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::process::{cargo, output_of, run, workspace_root};
use crate::release::{archive, executable};
use crate::steps::{nextest, run_tests};
use crate::tally::Tally;
use crate::tools::{CBINDGEN, ensure_crate};

/// The name by which linked programs find this library. It changes when they would no longer work.
const SONAME: &str = "libanion.so.1";

/// The libraries that replace libdmabufheap and libion, under the same names.
const COMPATIBLE: [&str; 2] = ["libdmabufheap", "libion"];
/// The headers of all of them, below `include`.
const HEADERS: [&str; 6] = [
    "anion.h",
    "anion.hpp",
    "BufferAllocator/BufferAllocator.h",
    "BufferAllocator/BufferAllocatorWrapper.h",
    "BufferAllocator/dmabufheap-defs.h",
    "ion/ion.h",
];

/// The library that `anionctl run` preloads.
pub(crate) const PRELOAD: &str = "libanion-preload.so";

/// The library that processes of graphics clients load.
const MAPPER: &str = "mapper.anion.so";

/// Install the client library for C and C++ with its headers, anion.pc and libanion(3),
/// libdmabufheap and libion over it, libanion-preload.so for `anionctl run`,
/// and mapper.anion.so with its header
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Directory in which `lib`, `include` and `share` are created
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    pub(crate) prefix: PathBuf,
}

/// Builds the library and installs it.
///
/// # Errors
/// If the build fails, or a file cannot be written.
pub(crate) fn install(args: &InstallArgs) -> Result<()> {
    let prefix = std::path::absolute(&args.prefix).context("cannot resolve the directory --prefix")?;
    let source = workspace_root().join("client/c");
    let [lib, include] = ["lib", "include"].map(|folder| prefix.join(folder));
    let [pkgconfig, man] = ["lib/pkgconfig", "share/man/man3"].map(|folder| prefix.join(folder));
    for folder in [&lib.join("hw"), &include.join("BufferAllocator"), &include.join("ion"), &pkgconfig, &man]
    {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let archive = build("anion-c")?;
    bundle(&archive, &source.join("libanion.map"), &lib.join("libanion.a"))?;
    link(&archive, &source.join("libanion.map"), &lib, SONAME)?;
    let name = lib.join("libanion.so");
    if name.is_symlink() {
        fs::remove_file(&name).with_context(|| format!("cannot replace {}", name.display()))?;
    }
    symlink(SONAME, &name).with_context(|| format!("cannot make {}", name.display()))?;
    for name in COMPATIBLE {
        link(&archive, &source.join(name).with_extension("map"), &lib, &format!("{name}.so"))?;
    }
    let script = workspace_root().join("client/preload/libanion-preload.map");
    link(&build("anion-preload")?, &script, &lib, PRELOAD)?;
    let mapper = workspace_root().join("graphics/mapper");
    link(&build("anion-mapper")?, &mapper.join("mapper.anion.map"), &lib.join("hw"), MAPPER)?;
    copy(&mapper.join("include/anion-mapper.h"), &include.join("anion-mapper.h"))?;
    for header in HEADERS {
        copy(&source.join("include").join(header), &include.join(header))?;
    }
    copy(&source.join("libanion.3"), &man.join("libanion.3"))?;
    let template = read(&source.join("anion.pc.in"))?;
    let filled = template
        .replace("@PREFIX@", prefix.to_str().context("the prefix is not UTF-8")?)
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    let place = pkgconfig.join("anion.pc");
    fs::write(&place, filled).with_context(|| format!("cannot write {}", place.display()))?;
    let bytes = fs::metadata(lib.join(SONAME)).context("cannot read the size of the library")?.len();
    println!(
        "installed {SONAME}, {} KiB, with its headers and further libraries below {}",
        bytes / 1024,
        prefix.display()
    );
    Ok(())
}

/// Builds the static archive of a package, from which libraries are linked.
fn build(package: &str) -> Result<PathBuf> {
    let mut command = cargo();
    // For cargo's own builds, the mapper is another kind of library.
    command.args(["rustc", "--crate-type", "staticlib", "--profile", "release-c", "--package", package]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let messages = output_of(&mut command)?;
    let target = package.replace('-', "_");
    archive(&messages, &target).with_context(|| format!("cargo made no lib{target}.a"))
}

/// Links the shared library. Of the archive's symbols, it exports only those of the version script.
fn link(archive: &Path, script: &Path, folder: &Path, soname: &str) -> Result<()> {
    let mut version = std::ffi::OsString::from("-Wl,--version-script=");
    version.push(script);
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-s", "-Wl,--gc-sections", "-Wl,--no-undefined", "-Wl,--as-needed"]);
    // Its threads and thread-local values outlive any dlclose(3).
    cc.args(["-Wl,-z,nodelete", "-Wl,-z,relro", "-Wl,-z,now"]);
    cc.arg(format!("-Wl,-soname,{soname}")).arg(version);
    cc.arg("-Wl,--whole-archive").arg(archive).arg("-Wl,--no-whole-archive");
    run(cc.args(["-lgcc_s", "-lpthread", "-ldl", "-lm", "-o"]).arg(folder.join(soname)))
}

/// Builds the static library: one object with the code of the exported functions and no other
/// global symbols. So a program can also link another library written in Rust.
fn bundle(archive: &Path, script: &Path, library: &Path) -> Result<()> {
    let script = read(script)?;
    let listed = script.lines().filter_map(|line| line.trim().strip_suffix(';'));
    let names: Vec<&str> = listed.filter(|name| name.starts_with("anion_")).collect();
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let [object, list] = ["libanion.o", "names"].map(|name| scratch.path().join(name));
    fs::write(&list, names.join("\n")).context("cannot write the list of names")?;
    let mut cc = Command::new("cc");
    cc.args(["-r", "-nostdlib", "-Wl,--gc-sections"]).args(names.iter().map(|name| format!("-Wl,-u,{name}")));
    run(cc.arg(archive).arg("-o").arg(&object))?;
    let mut keep = std::ffi::OsString::from("--keep-global-symbols=");
    keep.push(&list);
    run(Command::new("objcopy").arg("--strip-debug").arg(keep).arg(&object))?;
    if library.exists() {
        fs::remove_file(library).with_context(|| format!("cannot replace {}", library.display()))?;
    }
    run(Command::new("ar").arg("rcs").arg(library).arg(object))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot write {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644)).context("permissions")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Generates the header from the Rust sources.
///
/// # Errors
/// If cbindgen is unavailable or refuses the sources, or the header cannot be written.
pub(crate) fn write_header() -> Result<()> {
    fs::write(header_place(), header()?).context("cannot write the header")
}

fn header_place() -> PathBuf {
    workspace_root().join("client/c/include/anion.h")
}

/// Returns the header that cbindgen generates.
fn header() -> Result<String> {
    let program = ensure_crate(CBINDGEN)?.join("cbindgen");
    let mut cbindgen = Command::new(program);
    cbindgen.args(["--quiet", "--config", "cbindgen.toml", "."]);
    let text = output_of(cbindgen.current_dir(workspace_root().join("client/c")))?;
    // Argument types that its configuration renames end with a space.
    let lines = text.lines().map(|line| match line.split_once(" * ") {
        Some((start, rest)) if !start.trim().is_empty() && rest.ends_with([',', ';']) => {
            format!("{start} *{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    Ok(lines.collect())
}

/// Compares the header with the sources, installs the library into a scratch directory and runs its
/// tests against that.
///
/// # Errors
/// If the header differs from the sources, or a test fails.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let is_same = read(&header_place())? == header()?;
    ensure!(is_same, "client/c/include/anion.h differs from the sources: run `cargo xtask c-header`");
    *tally += Tally::one(true);
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let prefix = scratch.path().join("prefix");
    install(&InstallArgs { prefix: prefix.clone() })?;
    let mut tests = nextest()?;
    // Of the workspace, here and below: for single packages, crates would be built once more with
    // fewer features.
    tests.args(["--workspace", "--run-ignored", "only"]);
    tests.args(["-E", "package(anion) & (binary(=libanion) | binary(=run) | binary(=trap))"]);
    run_tests(tests.env("ANION_C_PREFIX", &prefix).env("ANION_CONTRACT", contract()?), tally)?;
    let mut tests = nextest()?;
    tests.args(["--workspace", "--run-ignored", "only", "-E", "package(anion-mapper) & binary(=installed)"]);
    run_tests(tests.env("ANION_C_PREFIX", prefix), tally)
}

/// Builds the contract table, which is run against the nodes that programs find.
fn contract() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "anion-contract", "--message-format=json-render-diagnostics"]);
    let messages = output_of(command.stderr(Stdio::inherit()))?;
    executable(&messages, "anion-contract").context("cargo made no program anion-contract")
}
