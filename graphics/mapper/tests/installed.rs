// SPDX-License-Identifier: Apache-2.0
//! The mapper as it is installed, and its header: for C and C++, by both compilers. `cargo xtask
//! test --only c` installs it and runs these.

mod maker;

use anion_handle::{Handle, Request};
use anion_layout::{Format, STRIDE_ALIGN, Usage};
use anion_memory::{Access, BufferId};
use command_fds::{CommandFdExt, FdMapping};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Bytes that the library may have.
const MAX_BYTES: u64 = 1 << 20;

/// Returns where `cargo xtask test --only c` has installed it.
fn prefix() -> PathBuf {
    std::env::var_os("ANION_C_PREFIX").expect("ANION_C_PREFIX names what was installed").into()
}

fn mapper() -> PathBuf {
    prefix().join("lib/hw/mapper.anion.so")
}

/// Returns what a command that succeeds writes.
fn output_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.is_empty(), "{command:?}: {status}: {stderr}");
    String::from_utf8(stdout).expect("text")
}

/// Compiles a source of this folder.
fn compile(compiler: &mut Command, source: &str, into: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    compiler
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-pedantic", "-I"])
        .arg(prefix().join("include"));
    output_of(compiler.arg(source).args(["-ldl", "-o"]).arg(into));
}

#[test]
#[ignore = "needs an installed mapper: cargo xtask test --only c"]
fn it_exports_two_names_and_is_small() {
    let names = output_of(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(mapper()));
    let mut names: Vec<&str> = names.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["AIMapper_loadIMapper", "ANDROID_HAL_MAPPER_VERSION"]);
    let bytes = std::fs::metadata(mapper()).expect("installed").len();
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
    let dynamic = output_of(Command::new("readelf").args(["--dynamic", "--wide"]).arg(mapper()));
    let listed = |tag: &str| -> Vec<&str> {
        let lines = dynamic.lines().filter(|line| line.contains(tag));
        lines.filter_map(|line| line.split(['[', ']']).nth(1)).collect()
    };
    assert_eq!(listed("(SONAME)"), ["mapper.anion.so"]);
    for needed in listed("(NEEDED)") {
        let is_the_c_librarys = ["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"].contains(&needed);
        assert!(is_the_c_librarys, "it needs {needed}");
    }
}

#[test]
#[ignore = "needs an installed mapper: cargo xtask test --only c"]
fn c_and_cpp_agree_with_it_about_every_type_and_call() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for mut compiler in [Command::new("gcc"), Command::new("clang")] {
        compile(compiler.arg("-std=gnu11"), "header.c", &scratch.path().join("header"));
    }
    for mut compiler in [Command::new("g++"), Command::new("clang++")] {
        let program = scratch.path().join("abi");
        compile(compiler.arg("-std=gnu++17"), "abi.cpp", &program);
        let request = Request {
            format: Format::Rgba8888,
            width: 48,
            height: 16,
            layers: 1,
            usage: Usage(0x33),
            stride_align: STRIDE_ALIGN,
            reserved_size: 0,
        };
        let handle = Handle::new(BufferId(1), request, 4096, Access::ReadWrite).expect("a handle");
        let [pixels, metadata] = maker::files(&handle, b"abi").expect("two files");
        let mut program = Command::new(&program);
        program.arg(mapper()).arg(request.width.to_string());
        program.args(handle.to_ints().iter().map(i32::to_string));
        let inherited = [(pixels, 3), (metadata, 4)];
        let inherited = inherited.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        program.fd_mappings(inherited.into()).expect("no two are one");
        output_of(&mut program);
    }
}
