// SPDX-License-Identifier: Apache-2.0
//! Runs unmodified programs with `anionctl run`: those in `client/preload/tests` use no interface
//! of Anion. `cargo xtask test --only c` installs the library and runs these.

mod common;

use common::anionctl::{as_stranger, daemon_for_everyone, held};
use common::{Daemon, eventually};
use nix::unistd::Uid;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Every warning is an error.
const STRICT: [&str; 6] = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-pthread"];
/// Compiler options that make a program call different functions of the C library.
const VARIANTS: [&[&str]; 2] = [&["-O0"], &["-O2", "-D_FORTIFY_SOURCE=2", "-D_FILE_OFFSET_BITS=64"]];

const LIBRARY: &str = "libanion-preload.so";
const MAX_BYTES: u64 = 3 << 19;
const MAX_LIBRARIES: usize = 9;

/// Returns the folder into which `cargo xtask test --only c` has installed the library.
fn installed() -> PathBuf {
    let prefix = std::env::var_os("ANION_C_PREFIX").expect("ANION_C_PREFIX names the installed libraries");
    Path::new(&prefix).join("lib").join(LIBRARY)
}

/// A service, with `anionctl` and the library in a folder that other users may enter.
struct Place {
    daemon: Daemon,
}

impl Place {
    fn new() -> Self {
        let daemon = daemon_for_everyone();
        fs::copy(installed(), daemon.directory().join(LIBRARY)).expect("copied");
        Self { daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemon.directory().join(name)
    }

    /// Compiles a program of `client/preload/tests`.
    fn compile(&self, name: &str, variant: &[&str]) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("client/preload/tests");
        let program = self.path("program");
        let mut gcc = Command::new("gcc");
        gcc.args(STRICT).args(variant).arg(folder.join(name)).arg("-o").arg(&program);
        stdout_of(&mut gcc);
        program
    }

    /// Returns `anionctl run` with these arguments.
    fn run(&self, args: &[&OsStr]) -> Command {
        self.prepared(Command::new(self.path("anionctl")), args)
    }

    /// Returns the same for a user without permissions on this machine.
    fn run_as_stranger(&self, args: &[&OsStr]) -> Command {
        self.prepared(as_stranger(self.path("anionctl")), args)
    }

    fn prepared(&self, mut command: Command, args: &[&OsStr]) -> Command {
        command.arg("--socket").arg(self.daemon.socket()).arg("run").args(args);
        for name in ["ANION_SOCKET", "ANION_PRELOAD", "ANION_ION_INTERFACE", "LD_PRELOAD"] {
            command.env_remove(name);
        }
        // The tests need Anion's nodes, also on machines that have nodes of their own.
        if ["/dev/ion", "/dev/dma_heap"].iter().any(|node| Path::new(node).exists()) {
            command.env("ANION_PRELOAD_FORCE", "1");
        }
        command.current_dir("/");
        command
    }
}

/// Returns the output of a command that succeeds.
fn stdout_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}: {stderr}");
    assert!(stderr.is_empty(), "{command:?}: {stderr}");
    String::from_utf8(stdout).expect("text")
}

/// Returns the exit code and the message of a command that fails.
fn refusal_of(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("it starts");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

/// Runs each variant of a program as this user, and under root also as another one.
fn check(name: &str, options: &[&str]) {
    let place = Place::new();
    for variant in VARIANTS {
        let program = place.compile(name, variant);
        let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        args.push(program.as_os_str());
        assert_eq!(stdout_of(&mut place.run(&args)), "");
        if Uid::effective().is_root() {
            assert_eq!(stdout_of(&mut place.run_as_stranger(&args)), "");
        }
        eventually("nothing is held", || held(&place.daemon) == (0, 0));
    }
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn a_program_for_dma_heaps_runs_as_it_is() {
    check("dma_heap.c", &[]);
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn a_program_for_ion_with_descriptors_runs_as_it_is() {
    check("ion_modern.c", &[]);
    check("ion_modern.c", &["--ion", "descriptors", "--"]);
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn a_program_for_ion_with_handles_runs_as_it_is() {
    check("ion_legacy.c", &[]);
    check("ion_legacy.c", &["--ion", "handles", "--"]);
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn the_nodes_are_listed_and_shown_as_devices() {
    let place = Place::new();
    let list = stdout_of(&mut place.run(&["ls", "-la", "/dev/dma_heap", "/dev/ion"].map(OsStr::new)));
    for name in ["camera", "ion_system_heap", "system", "/dev/ion"] {
        let line = list.lines().find(|line| line.ends_with(&format!(" {name}")));
        assert!(line.is_some_and(|line| line.starts_with("crw-rw-rw-")), "{list}");
    }
    // Children of the shell see the same nodes as the shell.
    let found = ["sh", "-c", "ls /dev/dma_heap/s*; test -c /dev/ion"].map(OsStr::new);
    assert_eq!(stdout_of(&mut place.run(&found)), "/dev/dma_heap/system\n");
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn a_program_that_has_nothing_to_do_with_nodes_is_as_without() {
    let place = Place::new();
    let script =
        "ls / /dev/fd/; cat /proc/sys/kernel/ostype; test -e /dev/none; echo $?; cd /dev; ls -d null";
    let words = ["sh", "-c", script].map(OsStr::new);
    let mut alone = Command::new("sh");
    assert_eq!(stdout_of(&mut place.run(&words)), stdout_of(alone.args(&words[1..]).current_dir("/")));
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn the_environment_says_where_the_service_is_and_keeps_what_was_preloaded() {
    let place = Place::new();
    let words = ["sh", "-c", "echo $LD_PRELOAD $ANION_SOCKET"].map(OsStr::new);
    let library = place.path(LIBRARY);
    let (library, socket) = (library.display(), place.daemon.socket());
    assert_eq!(stdout_of(&mut place.run(&words)), format!("{library} {}\n", socket.display()));
    let other = place.path("other.so");
    fs::copy(installed(), &other).expect("copied");
    let kept = stdout_of(place.run(&words).env("LD_PRELOAD", &other));
    assert_eq!(kept, format!("{library}:{} {}\n", other.display(), socket.display()));
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn a_program_that_cannot_be_served_is_refused_with_the_reason() {
    let place = Place::new();
    let refused = |program: &Path| refusal_of(&mut place.run(&[program.as_os_str()]));
    let program = place.compile("ion_modern.c", &["-static"]);
    let (code, why) = refused(&program);
    assert_eq!(code, Some(126), "{why}");
    assert!(why.contains("linked statically") && why.contains("--trap"), "{why}");
    let program = place.compile("ion_modern.c", &[]);
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("set");
    let (code, why) = refused(&program);
    assert!(code == Some(126) && why.contains("setuid"), "{code:?} {why}");
    assert_eq!(refused(&place.path("absent")).0, Some(127));
    assert_eq!(refused(&place.path("log")).0, Some(126), "it is no program");
    let mut without_service = Command::new(place.path("anionctl"));
    without_service.args(["--socket", "/nowhere/socket", "run", "true"]);
    assert_eq!(refusal_of(&mut without_service).0, Some(3));
    let words = ["--preload", "/nowhere/library.so", "true"].map(OsStr::new);
    let (code, why) = refusal_of(&mut place.run(&words));
    assert!(code == Some(5) && why.contains("/nowhere/library.so"), "{code:?} {why}");
    let words = ["sh", "-c", "exit 7"].map(OsStr::new);
    assert_eq!(refusal_of(&mut place.run(&words)).0, Some(7), "that of the program");
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn the_nodes_are_gone_with_the_service() {
    let mut place = Place::new();
    let program = place.compile("ion_modern.c", &[]);
    place.daemon.kill();
    let mut command = Command::new(&program);
    command.env("LD_PRELOAD", place.path(LIBRARY)).env("ANION_SOCKET", place.daemon.socket());
    let (code, why) = refusal_of(&mut command);
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("No such file or directory"), "{why}");
}

/// Runs the table of `contract/`, named by `ANION_CONTRACT`, on the nodes that programs find.
#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn the_nodes_answer_as_the_table_says() {
    let place = Place::new();
    let contract =
        PathBuf::from(std::env::var_os("ANION_CONTRACT").expect("ANION_CONTRACT names the program"));
    let parties = "ion/system,ion/camera,dma-heap/system,dma-heap/camera,dma-heap/ion_system_heap";
    let words = [OsStr::new("--"), contract.as_os_str(), OsStr::new("--served"), OsStr::new("--require")];
    let mut command = place.run(&words);
    command.arg(parties);
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let report = String::from_utf8_lossy(&stdout);
    assert!(status.success(), "{status}: {report}\n{}", String::from_utf8_lossy(&stderr));
    assert!(report.contains("; 0 failed;") && report.contains("ion/system::allocate::no_bytes"), "{report}");
    eventually("nothing is held", || held(&place.daemon) == (0, 0));
}

#[test]
#[ignore = "needs an installed libanion-preload: cargo xtask test --only c"]
fn the_library_exports_the_functions_of_its_version_script_alone_and_is_small() {
    let library = installed();
    let listed = stdout_of(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let symbols: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(' ').next_back()).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("client/preload/libanion-preload.map");
    let script = fs::read_to_string(script).expect("readable");
    let names =
        script.lines().filter_map(|line| line.trim().strip_suffix(';')).filter(|name| !"*}".contains(name));
    assert_eq!(symbols, names.collect());
    let dynamic = stdout_of(Command::new("readelf").arg("-d").arg(&library));
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)")).count();
    assert!(needed <= MAX_LIBRARIES, "{dynamic}");
    let bytes = fs::metadata(library).expect("installed").len();
    assert!(bytes < MAX_BYTES, "it has {bytes} bytes");
}
