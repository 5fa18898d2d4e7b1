// SPDX-License-Identifier: Apache-2.0
//! Tests `anionctl run --trap`: programs that use the device nodes and no interface of Anion, among
//! them static ones and programs with raw system calls, as an ordinary user. `cargo xtask test
//! --only c` runs these.

#[path = "../common/mod.rs"]
mod common;

use common::anionctl::{as_stranger, daemon_for_everyone, held};
use common::{Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A service, and a folder with `anionctl` and programs, which any user may use.
struct Scene {
    daemon: Daemon,
}

impl Scene {
    fn new() -> Self {
        Self { daemon: daemon_for_everyone() }
    }

    /// Compiles a program of this repository.
    fn compile(&self, source: &str, args: &[&str]) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let program = self.daemon.directory().join(source.file_stem().expect("a file"));
        let mut gcc = Command::new("gcc");
        gcc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]).args(args);
        let output = gcc.arg(source).arg("-o").arg(&program).output().expect("gcc starts");
        assert!(output.status.success(), "{gcc:?}: {}", String::from_utf8_lossy(&output.stderr));
        program
    }

    /// Returns the program of these tests, linked statically.
    fn program(&self) -> PathBuf {
        self.compile("tests/trap/program.c", &["-static"])
    }

    /// Returns a command that runs a program with `anionctl run --trap`, as an ordinary user.
    fn trap(&self, program: &Path, words: &[&str]) -> Command {
        let anionctl = self.daemon.directory().join("anionctl");
        let mut command = if geteuid().is_root() { as_stranger(anionctl) } else { Command::new(anionctl) };
        command.arg("--socket").arg(self.daemon.socket()).args(["run", "--trap", "--"]);
        command.arg(program).args(words).current_dir("/");
        for name in ["ANION_SOCKET", "ANION_PRELOAD", "LD_PRELOAD"] {
            command.env_remove(name);
        }
        // The test needs Anion's nodes, also on machines that have nodes of their own.
        command.env("ANION_PRELOAD_FORCE", "1").stdin(Stdio::null());
        command
    }

    /// Runs it until it ends with 0. Then checks that its memory was released.
    fn check(&self, program: &Path, words: &[&str]) {
        let Output { status, stderr, .. } = self.trap(program, words).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{} {words:?}: {status}: {stderr}", program.display());
        self.nothing_is_held();
    }

    fn nothing_is_held(&self) {
        eventually("nothing is held", || held(&self.daemon) == (0, 0));
    }

    /// Starts it, and waits until it prints this line.
    fn start(&self, program: &Path, words: &[&str], line: &str) -> Running {
        let mut child = self.trap(program, words).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = String::new();
        output.read_line(&mut said).expect("text");
        assert_eq!(said.trim_end(), line);
        Running { child, output }
    }
}

/// `anionctl run --trap`, with the remaining output of its program.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Returns its exit code, and the output of its program to the end.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("text");
        (self.child.wait().expect("a child").code(), said)
    }
}

/// Returns the exit code and standard error of a command.
fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn a_static_program_and_its_raw_system_calls_are_served() {
    let scene = Scene::new();
    let program = scene.program();
    for what in ["raw", "look", "list"] {
        scene.check(&program, &[what]);
    }
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn children_and_threads_are_served_side_by_side() {
    let scene = Scene::new();
    let program = scene.program();
    for what in ["children", "threads"] {
        scene.check(&program, &[what]);
    }
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn signals_during_allocations_lose_no_descriptor() {
    let scene = Scene::new();
    scene.check(&scene.program(), &["interrupted"]);
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn programs_that_the_preloaded_library_serves_are_served_alike() {
    let scene = Scene::new();
    for name in ["dma_heap", "ion_modern", "ion_legacy"] {
        let source = format!("client/preload/tests/{name}.c");
        scene.check(&scene.compile(&source, &["-static"]), &[]);
        scene.check(&scene.compile(&source, &[]), &[]);
    }
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn the_exit_code_is_the_programs() {
    let scene = Scene::new();
    let program = scene.program();
    let by_signal = 128 + Signal::SIGABRT as i32;
    assert_eq!(outcome(&mut scene.trap(&program, &["abort"])).0, Some(by_signal));
    assert_eq!(outcome(&mut scene.trap(&program, &["nothing"])).0, Some(2));
    for (missing, code) in [("/dev/null", 126), ("/nowhere", 127)] {
        let (found, message) = outcome(&mut scene.trap(Path::new(missing), &[]));
        assert_eq!(found, Some(code), "{message}");
        assert!(message.contains(missing), "{message}");
    }
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn a_program_with_rights_of_its_own_is_refused() {
    let scene = Scene::new();
    let program = scene.program();
    for (mode, right) in [(0o4755, "setuid"), (0o2755, "setgid")] {
        fs::set_permissions(&program, Permissions::from_mode(mode)).expect("its own file");
        let (code, message) = outcome(&mut scene.trap(&program, &["raw"]));
        assert!(code == Some(126) && message.contains(right), "{code:?} {message}");
    }
}

/// Runs the table of `contract/`, named by `ANION_CONTRACT`, on the nodes that programs find.
#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn the_nodes_answer_as_the_table_says() {
    let scene = Scene::new();
    let built = std::env::var_os("ANION_CONTRACT").expect("ANION_CONTRACT names the program");
    let contract = scene.daemon.directory().join("anion-contract");
    fs::copy(built, &contract).expect("copied");
    let parties = "ion/system,ion/camera,dma-heap/system,dma-heap/camera,dma-heap/ion_system_heap";
    let output = scene.trap(&contract, &["--served", "--require", parties]).output().expect("it starts");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {report}", output.status);
    assert!(report.contains("; 0 failed;") && report.contains("ion/system::allocate::no_bytes"), "{report}");
    scene.nothing_is_held();
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn signals_are_passed_on() {
    let scene = Scene::new();
    let program = scene.program();
    for (signal, name) in [(Signal::SIGTERM, "TERM\n"), (Signal::SIGINT, "INT\n"), (Signal::SIGHUP, "HUP\n")]
    {
        let running = scene.start(&program, &["wait"], "ready");
        kill(running.pid(), signal).expect("it runs");
        assert_eq!(running.end(), (Some(3), name.to_owned()));
    }
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn a_program_that_is_killed_leaves_nothing() {
    let scene = Scene::new();
    let program = scene.program();
    let running = scene.start(&program, &["hold"], "held");
    assert_eq!(held(&scene.daemon).1, 1);
    kill(running.pid(), Signal::SIGTERM).expect("it runs");
    assert_eq!(running.end().0, Some(128 + Signal::SIGTERM as i32));
    scene.nothing_is_held();

    // Without its supervisor it cannot continue.
    let running = scene.start(&program, &["hold"], "held");
    kill(running.pid(), Signal::SIGKILL).expect("it runs");
    assert_eq!(running.end().0, None);
    scene.nothing_is_held();
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn a_descendant_that_outlives_the_program_is_served_to_its_end() {
    let scene = Scene::new();
    let mut command = scene.trap(&scene.program(), &["orphan"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!((child.wait().expect("a child").code(), said.as_str()), (Some(7), "allocated\n"));
    scene.nothing_is_held();
}

#[test]
#[ignore = "needs gcc: cargo xtask test --only c"]
fn a_trapped_program_cannot_trap_another() {
    let scene = Scene::new();
    let socket = scene.daemon.socket();
    let words = ["--socket", socket.to_str().expect("text"), "run", "--trap", "--", "true"];
    let (code, message) = outcome(&mut scene.trap(&scene.daemon.directory().join("anionctl"), &words));
    assert_eq!(code, Some(5), "{message}");
    assert!(message.contains("traps the system calls of this process already"), "{message}");
}
