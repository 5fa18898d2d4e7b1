// SPDX-License-Identifier: Apache-2.0
//! Compares the programs that the sources start with the listed packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{BASE, EVERYTHING, FRESH, LINTIAN};
use crate::process::workspace_root;

/// The folders of sources that start programs.
const FOLDERS: [&str; 14] = [
    "src",
    "aidl",
    "anionctl",
    "benches",
    "client",
    "contract",
    "examples",
    "graphics",
    "ipc",
    "memory",
    "rustutils",
    "tests",
    "vts",
    "xtask",
];

/// The texts before a program's name.
const STARTERS: [&str; 8] = [
    "Command::new(",
    "leashed(",
    ".command(",
    ".program(",
    "find_program(",
    "start_under(&[",
    "LEASH: [&str; 4] = [",
    // `nice` starts it.
    ".args([\"-n\", \"10\", ",
];

/// The texts before a shell script, as an argument and as a file.
const SCRIPT: &str = "\"-c\", ";
const SHEBANG: &str = "#!/bin/sh\\n";

/// Words of scripts that are no programs.
const BUILTINS: [&str; 11] =
    [":", "cd", "echo", "exit", "fi", "kill", "set", "test", "trap", "ulimit", "wait"];

/// Words before a program in a script.
const PREFIXES: [&str; 6] = ["exec", "if", "then", "while", "until", "{{"];

/// Parts of expressions that return a program of this workspace, or cargo itself.
const OWN: [&str; 4] = ["current_exe()", "env!(\"CARGO", "var_os(\"CARGO\")", "ANIONCTL"];

/// Other started programs that are on no list: the file, the name or expression, and the
/// explanation.
const OTHERS: &[(&str, &str, &str)] = &[
    ("benches/allocate/programs.rs", "&own", "the benchmark itself"),
    ("benches/allocate/programs.rs", "program(\"anionctl\")", "of those beside the service"),
    ("benches/allocate/restart.rs", "&format!(\"{variables} exec \\\"$0\\\" \\\"$@\\\"\")", "the service"),
    ("benches/allocate/servers.rs", "program(\"aniond\")", "the service"),
    ("anionctl/src/doctor.rs", "&program", "the service"),
    ("anionctl/src/exec.rs", "program", "the user's program; sh in the tests"),
    ("anionctl/src/run/mod.rs", "&program", "the user's program"),
    ("anionctl/src/run/trap/mod.rs", "&program", "the user's program"),
    ("graphics/mapper/tests/installed.rs", "&program", "the compiled program"),
    ("tests/camera_pipeline.rs", "path_of(\"camera_pipeline\")", "the example"),
    ("tests/common/example.rs", "path_of(name)", "the example"),
    ("tests/common/mod.rs", "program", "the service, or the wrapper of start_under"),
    ("tests/daemon/place.rs", "&format!(\"{variables} exec \\\"$0\\\" \\\"$@\\\"\")", "the service"),
    ("tests/daemon/place.rs", "program", "the service or sh, from command("),
    ("tests/daemon/place.rs", "program()", "the service"),
    ("tests/daemon/surroundings.rs", "first", "unshare or prlimit, from under("),
    ("tests/doctor.rs", "&program", "a copy of anionctl"),
    ("tests/faults/main.rs", "words.next().expect(\"a program\")", "the service"),
    ("tests/libanion.rs", "&program", "the compiled program"),
    ("tests/libanion.rs", "command", "a line of docs/devices.md, which starts cc and pkg-config"),
    ("tests/libanion.rs", "compiler", "gcc, g++, clang or clang++"),
    ("tests/libanion.rs", "program", "the compiled program"),
    ("tests/libanion.rs", "scratch.path().join(\"capture\")", "the compiled program"),
    ("tests/observability.rs", "&line", "a line of docs/observability.md or for-hal.md: all start anionctl"),
    ("tests/run.rs", "&program", "the compiled program"),
    ("tests/run.rs", "place.path(\"anionctl\")", "a copy of anionctl"),
    ("tests/run.rs", "self.path(\"anionctl\")", "a copy of anionctl"),
    ("tests/trap/main.rs", "anionctl", "a copy of anionctl"),
    ("xtask/src/android/aidl.rs", "usr/lib/android-sdk/build-tools/debian/aidl", "of a bundle"),
    ("xtask/src/browser/scene.rs", "&programs.aniond", "the service"),
    ("xtask/src/browser/scene.rs", "&programs.anionctl", "anionctl"),
    ("xtask/src/browser/scene.rs", "pipeline", "the example"),
    ("xtask/src/cross.rs", "usr/bin/rustc", "of a bundle"),
    ("xtask/src/conformance.rs", "&vts", "the conformance suite"),
    ("xtask/src/conformance.rs", "service", "the service"),
    ("xtask/src/debian/apt.rs", "program", "apt-get or apt-cache, from command("),
    ("xtask/src/debian/packages.rs", "libraries.join(loader)", "the loader of a bundle"),
    ("xtask/src/deny.rs", "cargo-deny", "built into the cache if it is not there"),
    ("xtask/src/fresh/root.rs", "line", "a line of README.md, all of which start cargo"),
    ("xtask/src/fresh/root.rs", "rustc", "of the toolchain that this was built with"),
    ("xtask/src/fuzz.rs", "program", "a fuzzer, built before"),
    ("xtask/src/install/mod.rs", "&programs.anionctl", "anionctl"),
    ("xtask/src/install/tree.rs", "program", "the service or anionctl"),
    ("xtask/src/libanion.rs", "program", "cbindgen, built into the cache"),
    ("xtask/src/needs/mod.rs", "tool.program", "looked for, not started"),
    ("xtask/src/process.rs", "/opt/toolchain/bin/cargo", "shown, not started"),
    ("xtask/src/process.rs", "LEASH[0]", "setpriv, from LEASH"),
    ("xtask/src/python.rs", "venv.join(\"bin/python\")", "of an environment that Debian's Python makes"),
    ("xtask/src/readme.rs", "command", "a line of README.md, all of which start cargo"),
    ("xtask/src/steps.rs", "cargo-nextest", "built into the cache if it is not there"),
    ("xtask/src/tools.rs", "program", "looked for, not started"),
    ("xtask/src/trees/reader.rs", "&self.aniond", "the service"),
    ("xtask/src/vm/systemd/root.rs", "INSTALL", "dpkg, rm, useradd and usermod of the root"),
    ("xtask/src/vm/systemd/root.rs", "PACK", "rm, find and cpio"),
    (
        "xtask/src/vm/initramfs.rs",
        "programs.strip",
        "of this machine or for 64-bit ARM, from the programs of a machine",
    ),
    ("xtask/src/vm/machine.rs", "self.emulator", "of PC or ARM64"),
];

/// Returns the programs that a source text starts: their names, or the expressions if there is no
/// literal name.
fn started(text: &str) -> BTreeSet<String> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code: String = text.split_inclusive('\n').filter(is_code).collect();
    let mut found = BTreeSet::new();
    for starter in STARTERS {
        for (at, _) in code.match_indices(starter).filter(|(at, _)| !code[..*at].ends_with("fn ")) {
            let rest = code[at + starter.len()..].trim_start();
            found.extend(literal(rest).or_else(|| argument(rest)));
        }
    }
    for (at, marker) in code.match_indices(SCRIPT) {
        let rest = code[at + marker.len()..].trim_start();
        let Some(expression) = argument(rest) else { continue };
        let scripts = match literal(rest) {
            Some(script) => vec![script],
            None => assigned(&code, expression.trim_start_matches('&')),
        };
        match scripts.as_slice() {
            [] => found.extend([expression]),
            scripts => found.extend(scripts.iter().flat_map(|script| programs_of(script))),
        }
    }
    for (at, marker) in code.match_indices(SHEBANG) {
        found.extend(
            literal(&format!("\"{}", &code[at + marker.len()..]))
                .iter()
                .flat_map(|script| programs_of(script)),
        );
    }
    found
}

/// Returns the strings that are assigned to variables of this name.
fn assigned(code: &str, name: &str) -> Vec<String> {
    let places = code.match_indices("let ").filter_map(|(at, _)| {
        let value =
            code[at..].strip_prefix("let ")?.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim_start();
        literal(value.strip_prefix("format!(").unwrap_or(value).trim_start())
    });
    places.collect()
}

/// Returns the string at the start of a text, if there is one.
fn literal(text: &str) -> Option<String> {
    let text = text.strip_prefix('"')?;
    let mut string = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Some(string),
            '\\' => match rest.next()? {
                'n' => string.push('\n'),
                // The string continues in the next line.
                '\n' => {}
                other => string.push(other),
            },
            other => string.push(other),
        }
    }
    None
}

/// Returns the expression at the start of a text, up to the end of the argument; `None` if there is
/// none.
fn argument(text: &str) -> Option<String> {
    let mut depth = 0;
    let end = text.find(|c| {
        let is_end = depth == 0 && matches!(c, ',' | ')' | ']');
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        is_end
    })?;
    Some(text[..end].trim().to_owned()).filter(|argument| !argument.is_empty())
}

/// Returns the programs that a script starts by name.
fn programs_of(script: &str) -> Vec<String> {
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let mut programs = Vec::new();
    // Text in single quotes is a word of its own.
    let bare: String = script.split('\'').step_by(2).collect::<Vec<_>>().join("''").replace(">&", ">");
    for command in bare.split([';', '|', '&', '\n']) {
        let mut words =
            command.split_whitespace().skip_while(|word| PREFIXES.contains(word) || is_assignment(word));
        let Some(program) = words.next() else { continue };
        if program == "xargs" {
            programs.extend(words.find(|word| !word.starts_with('-')).map(str::to_owned));
        }
        if is_name(program) && !BUILTINS.contains(&program) {
            programs.push(program.to_owned());
        }
    }
    programs
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Calls `take` with every Rust source except this one.
fn each_source(folder: &Path, take: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            each_source(&path, take);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
            take(&path, &fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// Returns whether a listed package has it, every Debian has it, or it is explained.
fn is_known(file: &str, started: &str) -> bool {
    let mut tools = EVERYTHING.iter().copied().flatten().chain(FRESH).chain(LINTIAN).chain(BASE);
    tools.any(|tool| tool.program == started)
        || OWN.iter().any(|own| started.contains(own))
        || OTHERS.iter().any(|(of, name, _)| (*of, *name) == (file, started))
}

#[test]
fn every_program_that_is_started_comes_from_a_package_that_is_asked_for() {
    let mut all = BTreeSet::new();
    for folder in FOLDERS {
        each_source(&workspace_root().join(folder), &mut |path, text| {
            let file = path.strip_prefix(workspace_root()).expect("below the root").display().to_string();
            all.extend(started(text).into_iter().map(|name| (file.clone(), name)));
        });
    }
    let unknown: Vec<_> = all.iter().filter(|(file, name)| !is_known(file, name)).collect();
    assert!(unknown.is_empty(), "these are on no list of needs/mod.rs: {unknown:#?}");
    for (file, name, why) in OTHERS {
        assert!(
            all.contains(&((*file).to_owned(), (*name).to_owned())),
            "{file} does not start {name}: {why}"
        );
    }
    for name in ["cmp", "m4", "make", "setpriv", "sha1sum", "strace", "unshare", "wc"] {
        assert!(all.iter().any(|(_, started)| started == name), "{name} was not seen in {all:#?}");
    }
}

#[test]
fn each_line_of_the_readme_that_is_run_starts_cargo() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).expect("readable");
    let blocks = crate::readme::commands_of(&readme).expect("well-formed");
    assert!(blocks.iter().all(|command| command.starts_with("cargo ")), "{blocks:#?}");
}

#[test]
fn names_are_seen_wherever_a_program_is_started() {
    let sample = r##"
        // Command::new("in-a-comment")
        pub fn leashed(program: &str) {}
        run(Command::new("one").arg("-c"));
        assert_cmd::Command::new(
            "two",
        );
        tree.program("usr/bin/three"); self.command("four"); self.command(); leashed("five");
        Daemon::start_under(&["six", "--user"], &[]); Daemon::start_under(&[], &[]);
        Command::new(variable.join("x", 1)); leashed("sh").args(["-c", &unseen]);
        shell.args(["-c", "LC_ALL=C seven -0 | xargs -0 eight && echo \"ok\"; exit 3"]);
        let ten = "if test 1; then ten 'a; b' && \"$X\"; fi"; other.args(["-c", ten]);
        let script = "#!/bin/sh\nexec nine -o \"|trap '' TERM; exec {fold}\"\n";
    "##;
    let expected = [
        "&unseen",
        "eight",
        "five",
        "four",
        "nine",
        "one",
        "seven",
        "sh",
        "six",
        "ten",
        "two",
        "usr/bin/three",
        "variable.join(\"x\", 1)",
        "xargs",
    ];
    assert_eq!(started(sample).into_iter().collect::<Vec<_>>(), expected);
    assert!(!is_known("xtask/src/readme.rs", "seven") && !is_known("xtask/src/steps.rs", "command"));
    for known in ["xargs", "m4", "command"] {
        assert!(is_known("xtask/src/readme.rs", known), "{known}");
    }
}
