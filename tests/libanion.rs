// SPDX-License-Identifier: Apache-2.0
//! Tests the installed client library for C and C++: programs in both languages, by two compilers,
//! with sanitizers, against the real service. `cargo xtask test --only c` installs it and runs
//! these.

mod common;

use common::anionctl::held;
use common::{CLIENT_HEAPS, Daemon, eventually};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Every warning is an error.
const STRICT: [&str; 3] = ["-Wall", "-Wextra", "-Werror"];
/// Memory errors, undefined behaviour and leaks end the program.
const SANITIZED: [&str; 4] = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
/// Undefined behaviour ends the program. AddressSanitizer's allocator does not support `fork`
/// before LLVM 17: a child waits for ever for its lock if another thread held it.
const SANITIZED_FOR_FORK: [&str; 4] = ["-g", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"];

const MAX_BYTES: u64 = 3 << 19;
const MAX_LIBRARIES: usize = 9;

/// Returns the folder into which `cargo xtask test --only c` has installed the library.
fn prefix() -> PathBuf {
    std::env::var_os("ANION_C_PREFIX").expect("ANION_C_PREFIX names the installed library").into()
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the output of a command that succeeds.
fn output_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    assert!(stderr.is_empty(), "{command:?}: {stderr}");
    String::from_utf8(stdout).expect("text")
}

/// Returns pkg-config's output for the installed library.
fn flags(args: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.args(args).arg("anion").env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"));
    output_of(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// Returns the two compilers for a source of this name, with the option for the language's version.
fn compilers(source: &Path) -> [Command; 2] {
    let is_c = source.extension().is_some_and(|extension| extension == "c");
    let [gcc, clang] = if is_c {
        [Command::new("gcc"), Command::new("clang")]
    } else {
        [Command::new("g++"), Command::new("clang++")]
    };
    [gcc, clang].map(|mut compiler| {
        compiler.arg(if is_c { "-std=gnu11" } else { "-std=gnu++17" });
        compiler
    })
}

/// Compiles a program with `compiler` and the options that it already has.
fn compile(mut compiler: Command, source: &Path, into: &Path) -> PathBuf {
    let program = into.join(compiler.get_program());
    let version = format!("-DANION_TEST_VERSION=\"{}\"", env!("CARGO_PKG_VERSION"));
    compiler.args(STRICT).arg(version).arg("-pthread").arg(source).arg("-o").arg(&program);
    output_of(compiler.args(flags(&["--cflags", "--libs"])));
    program
}

/// Runs a compiled program until it ends with 0, and restarts the service on the program's request.
/// Then checks that its memory was released.
fn run(program: &Path) {
    let mut daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let mut child = Command::new(program)
        .env("ANION_SOCKET", daemon.socket())
        .env("LD_LIBRARY_PATH", prefix().join("lib"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut answers = child.stdin.take().expect("a pipe");
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        if line.expect("text") == "restart" {
            daemon.kill();
            daemon.start_again();
            writeln!(answers, "done").expect("the program reads");
        }
    }
    let status = child.wait().expect("a child");
    assert!(status.success(), "{}: {status}", program.display());
    eventually("nothing is held", || held(&daemon) == (0, 0));
}

/// Compiles a program of `client/c/tests` with both compilers and all sanitizers, and runs it.
fn check(name: &str, libraries: &[&str]) {
    check_with(&SANITIZED, name, libraries);
}

fn check_with(sanitizers: &[&str], name: &str, libraries: &[&str]) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let source = source("client/c/tests").join(name);
    for mut compiler in compilers(&source) {
        compiler.args(sanitizers).arg("-Wl,--no-as-needed");
        compiler.args(flags(&["--libs-only-L"])).args(libraries);
        run(&compile(compiler, &source, scratch.path()));
    }
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn every_function_does_what_the_header_says() {
    check("buffers.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn every_failure_has_its_errno_and_says_why() {
    check("errors.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn threads_share_a_client_while_the_service_restarts() {
    check("threads.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn a_child_of_fork_connects_for_itself() {
    check_with(&SANITIZED_FOR_FORK, "fork.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn a_restart_is_survived() {
    check("restart.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_wrapper_for_cpp_frees_and_returns_errors() {
    check("wrapper.cpp", &[]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn code_for_libdmabufheap_gets_its_buffers_from_the_service() {
    check("dmabufheap.c", &["-ldmabufheap"]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn code_for_the_class_buffer_allocator_compiles_as_it_is() {
    check("buffer_allocator.cpp", &["-ldmabufheap"]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn code_for_libion_gets_its_buffers_from_the_service() {
    check("ion.c", &["-lion"]);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_static_library_serves_as_well() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (source("client/c/tests/buffers.c"), scratch.path().join("static"));
    let version = format!("-DANION_TEST_VERSION=\"{}\"", env!("CARGO_PKG_VERSION"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", &version]).args(flags(&["--cflags"])).arg(source);
    gcc.arg(prefix().join("lib/libanion.a")).arg("-o").arg(&program);
    let libraries = flags(&["--libs", "--static"]);
    output_of(gcc.args(libraries.iter().filter(|flag| flag.as_str() != "-lanion")));
    run(&program);
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_example_of_a_camera_compiles_as_documented() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::symlink(source("examples"), scratch.path().join("examples")).expect("a link");
    let document = text_of(&source("docs/devices.md"));
    let command = document.lines().find(|line| line.starts_with("cc ")).expect("a command");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(&scratch);
    output_of(shell.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")));
    let mut program = Command::new(scratch.path().join("capture"));
    let help = output_of(program.arg("--help").env("LD_LIBRARY_PATH", prefix().join("lib")));
    assert!(help.starts_with("Usage: capture [OPTION]..."), "{help}");
}

/// With a camera it runs in guests: `cargo xtask vm`, step `pictures`.
#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_example_of_a_camera_says_what_it_lacks() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::with_heaps(CLIENT_HEAPS);
    let source = source("examples/c/capture.c");
    let drm = output_of(Command::new("pkg-config").args(["--cflags", "--libs", "libdrm"]));
    for mut compiler in compilers(&source) {
        compiler.args(SANITIZED).args(drm.split_whitespace());
        let program = compile(compiler, &source, scratch.path());
        let complaint = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.env("ANION_SOCKET", daemon.socket()).env("LD_LIBRARY_PATH", prefix().join("lib"));
            let Output { status, stderr, .. } = command.args(arguments).output().expect("it starts");
            assert_eq!(status.code(), Some(1), "{arguments:?}");
            String::from_utf8(stderr).expect("text")
        };
        for (arguments, expected) in [
            (["--device", "/nowhere/video"], "cannot open /nowhere/video: No such file or directory"),
            (["--device", "/dev/null"], "/dev/null is no V4L2 device"),
            (["--card", "/nowhere/card"], "cannot open /nowhere/card"),
            (["--size", "641x480"], "--size has a width of 641 pixels; the 8 bars need a multiple of 8"),
            (["--size", "640"], "--size is 640; it must be WIDTHxHEIGHT, such as 640x480"),
            (["--frames", "0"], "--frames is 0; it must be a number of at least 1"),
            (["--socket", "/nowhere/socket"], "no service: "),
            (["--colour", "red"], "--colour is no option"),
        ] {
            let message = complaint(&arguments);
            assert!(message.starts_with(&format!("capture: {expected}")), "{message}");
        }
    }
}

/// Returns the code blocks of a document in this language.
fn snippets<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    document.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_snippets_of_the_documents_run() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let file = |extension: &str| scratch.path().join("snippet").with_extension(extension);
    for (document, language, expected) in
        [("docs/c.md", "c", 2), ("docs/c.md", "cpp", 1), ("README.md", "c", 1), ("README.md", "cpp", 1)]
    {
        let text = text_of(&source(document));
        let snippets = snippets(&text, language);
        assert_eq!(snippets.len(), expected, "{document} has so many blocks of {language}");
        for snippet in snippets {
            // A block without `main` is the body of a function.
            let program = match snippet.contains("int main(") {
                true => snippet.to_owned(),
                false => {
                    let header = if language == "c" { "anion.h" } else { "anion.hpp" };
                    format!(
                        "#include <{header}>\n#include <err.h>\n#include <string.h>\nint main(void)\n{{\n{snippet}\n}}\n"
                    )
                }
            };
            let source = file(language);
            fs::write(&source, program).expect("written");
            for compiler in compilers(&source) {
                run(&compile(compiler, &source, scratch.path()));
            }
        }
    }
}

/// Returns the names of the functions in the header.
fn functions_of(header: &str) -> BTreeSet<String> {
    let code = header.split("/**").map(|part| part.split_once("*/").map_or(part, |(_, code)| code));
    let prototypes = code.flat_map(|code| code.split(';')).filter_map(|part| part.split_once('('));
    let names = prototypes.filter_map(|(start, _)| start.rsplit([' ', '*']).next());
    names.filter(|name| name.starts_with("anion_")).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_symbols_are_those_of_the_header_with_a_version_and_no_others() {
    let library = prefix().join("lib/libanion.so.1");
    let functions = functions_of(&text_of(&prefix().join("include/anion.h")));
    assert!(functions.len() > 40, "{functions:?}");

    let symbols = symbols_of(&library);
    let mut expected: BTreeSet<String> = functions.iter().map(|name| format!("{name}@@ANION_1")).collect();
    expected.insert("ANION_1".to_owned());
    assert_eq!(symbols, expected);

    let script = text_of(&source("client/c/libanion.map"));
    let exported: BTreeSet<String> =
        script.lines().filter_map(|line| Some(line.trim().strip_suffix(';')?.to_owned())).collect();
    let exported = exported.into_iter().filter(|name| name.starts_with("anion_")).collect();
    assert_eq!(functions, exported, "the version script has them one by one");
    is_small(&library);

    let mut nm = Command::new("nm");
    let listed = output_of(nm.args(["-g", "--defined-only"]).arg(prefix().join("lib/libanion.a")));
    let words = listed.lines().filter_map(|line| line.rsplit_once(" T "));
    assert_eq!(functions, words.map(|(_, name)| name.to_owned()).collect());
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn libdmabufheap_and_libion_export_the_functions_of_their_headers_and_no_others() {
    for (library, header) in
        [("libdmabufheap.so", "BufferAllocator/BufferAllocatorWrapper.h"), ("libion.so", "ion/ion.h")]
    {
        let library = prefix().join("lib").join(library);
        let header = text_of(&prefix().join("include").join(header));
        let symbols = symbols_of(&library);
        for name in &symbols {
            assert!(header.contains(&format!("{name}(")), "no prototype of {name}");
        }
        let prototypes =
            header.lines().filter(|line| line.contains('(') && !line.starts_with([' ', '#', '/']));
        assert_eq!(prototypes.count(), symbols.len(), "{symbols:?}");
        is_small(&library);
    }
}

/// Returns the exported names of a shared library, with their versions.
fn symbols_of(library: &Path) -> BTreeSet<String> {
    let listed = output_of(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    listed.lines().filter_map(|line| line.split(' ').next_back().map(str::to_owned)).collect()
}

/// Checks that a library has the name that programs use, and few dependencies.
fn is_small(library: &Path) {
    let name = library.file_name().expect("a file").display();
    let dynamic = output_of(Command::new("readelf").arg("-d").arg(library));
    assert!(dynamic.contains(&format!("Library soname: [{name}]")), "{dynamic}");
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)")).count();
    assert!(needed <= MAX_LIBRARIES, "{dynamic}");
    let bytes = fs::metadata(library).expect("installed").len();
    assert!(bytes < MAX_BYTES, "{name} has {bytes} bytes");
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_headers_compile_alone_for_old_and_new_languages_and_for_32_bits() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let check = |header: &str, compiler: &str, args: &[&str]| {
        let extension = if compiler.ends_with("++") { "cpp" } else { "c" };
        let source = scratch.path().join("alone").with_extension(extension);
        fs::write(&source, format!("#include <{header}>\n#include <{header}>\n")).expect("written");
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]).args(args);
        output_of(command.arg(source).args(flags(&["--cflags"])));
    };
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        check("anion.h", "gcc", &[standard]);
        check("anion.h", "clang", &[standard]);
    }
    for standard in ["-std=c++17", "-std=c++20"] {
        for header in ["anion.h", "anion.hpp"] {
            check(header, "g++", &[standard, "-fno-exceptions", "-fno-rtti"]);
            check(header, "clang++", &[standard, "-fno-exceptions", "-fno-rtti"]);
        }
    }
    // Freestanding: only the compiler's own headers are needed.
    check("anion.h", "gcc", &["-m32", "-ffreestanding"]);
    for target in ["i686-linux-gnu", "armv7a-linux-gnueabihf"] {
        check("anion.h", "clang", &["-target", target, "-ffreestanding"]);
    }
}

#[test]
#[ignore = "needs an installed libanion: cargo xtask test --only c"]
fn the_manual_page_has_every_function_and_no_fault() {
    let page = prefix().join("share/man/man3/libanion.3");
    let mut man = Command::new("man");
    man.args(["--warnings", "--encoding=UTF-8", "--local-file"]).arg(&page).env("MANWIDTH", "100");
    let shown = output_of(man.env("LC_ALL", "C.UTF-8"));
    for function in functions_of(&text_of(&prefix().join("include/anion.h"))) {
        assert!(shown.contains(&format!("{function}(")), "libanion(3) has no {function}");
    }
}
