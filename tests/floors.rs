// SPDX-License-Identifier: Apache-2.0
//! Checks the architecture: an import goes down the floors, never up, and each rule has one place
//! in the code.

#[path = "floors/imports.rs"]
mod imports;

use imports::Imports;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders with floors, and their modules, lowest first. A module may use only the modules
/// before it.
const FLOORS: [(&str, &[&str]); 3] = [
    (
        "src",
        &[
            "units",
            "sys",
            "pulse",
            "config",
            "ledger",
            "pool",
            "source",
            "heap",
            "allocator",
            "graphics",
            "service",
            "daemon",
        ],
    ),
    (
        "client/src",
        &[
            "process",
            "error",
            "mapping",
            "buffer",
            "request",
            "connection",
            "reservation",
            "pressure",
            "buffer_allocator",
        ],
    ),
    ("memory/src", &["words", "sys"]),
];

/// The crates of this workspace that know a side of the interface.
const SIDES: [&str; 3] = ["anion", "anion_client", "anionctl"];

/// The crates of [`SIDES`] that files may name, by the longest matching path prefix. The service
/// does not use the client library, and the library does not use the service.
const MAY_NAME: [(&str, &[&str]); 13] = [
    ("aidl", &[]),
    ("anionctl", &["anion_client"]),
    ("benches", &["anion", "anion_client"]),
    ("client", &["anion_client"]),
    ("contract", &[]),
    ("examples", &["anion_client"]),
    ("fuzz", &["anion"]),
    ("src", &[]),
    ("src/main.rs", &["anion"]),
    // The doctor calls a running service as clients do.
    ("src/daemon/doctor", &["anion_client"]),
    ("src/bin/anionctl.rs", &["anionctl"]),
    ("tests", &["anion", "anion_client"]),
    ("vts", &[]),
];

/// Most lines of a source file.
const MAX_LINES: usize = 420;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust file of the repository with its path from the root, except build output and
/// generated code, which has a form of its own and is not edited.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let tops = [
        "src",
        "aidl",
        "anionctl",
        "benches",
        "client",
        "contract",
        "examples",
        "fuzz",
        "graphics",
        "ipc",
        "memory",
        "rustutils",
        "tests",
        "vts",
        "xtask",
    ];
    let mut folders: Vec<_> = tops.into_iter().map(|top| root().join(top)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                let is_written = !path.ends_with("generated") && !path.ends_with("target");
                folders.extend(is_written.then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("readable");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 40, "only {} files found", found.len());
    found
}

/// A file in a folder with floors.
struct File {
    path: PathBuf,
    floors: &'static [&'static str],
    /// Its floor.
    floor: usize,
    imports: Imports,
}

/// Returns the module of a file, from the root of its crate.
fn module_of(below: &Path) -> Vec<&str> {
    let words = below.components().filter_map(|part| part.as_os_str().to_str());
    let mut words: Vec<_> = words.map(|word| word.trim_end_matches(".rs")).collect();
    if words.last().is_some_and(|last| ["mod", "lib", "main"].contains(last)) {
        words.pop();
    }
    words
}

/// Returns the file's floors and its index among them.
fn floor_of(path: &Path) -> Option<(&'static [&'static str], usize)> {
    FLOORS.iter().find_map(|(folder, floors)| {
        let module = module_of(path.strip_prefix(folder).ok()?);
        Some((*floors, floors.iter().position(|floor| Some(floor) == module.first())?))
    })
}

/// Returns the files in folders with floors.
fn files_on_floors() -> Vec<File> {
    let on_floor = |(path, text): (PathBuf, String)| {
        let (floors, floor) = floor_of(&path)?;
        let folder = FLOORS.iter().find(|(folder, _)| path.starts_with(folder))?.0;
        let imports = Imports::of(&text, &module_of(path.strip_prefix(folder).ok()?));
        Some(File { path, floors, floor, imports })
    };
    sources().into_iter().filter_map(on_floor).collect()
}

/// Returns the floors that a file imports.
fn named(file: &File) -> impl Iterator<Item = (usize, &str)> {
    file.imports.roots().into_iter().filter_map(|root| {
        assert_ne!(root, "*", "{} takes all of its crate's root", file.path.display());
        Some((file.floors.iter().position(|floor| *floor == root)?, root))
    })
}

#[test]
fn imports_go_down() {
    let mut checked = 0;
    for file in files_on_floors() {
        for (there, name) in named(&file) {
            let here = file.floors[file.floor];
            assert!(there <= file.floor, "{} is on floor {here} and uses {name}", file.path.display());
            checked += usize::from(there < file.floor);
        }
    }
    assert!(checked > 200, "only {checked} imports were seen");
}

#[test]
fn config_and_ledger_know_only_units() {
    for file in files_on_floors() {
        let own = file.floors[file.floor];
        if ["config", "ledger"].contains(&own) {
            for (_, name) in named(&file) {
                assert!(name == "units" || name == own, "{} uses {name}", file.path.display());
            }
        }
    }
}

#[test]
fn each_side_of_the_interface_knows_the_other_by_the_interface_alone() {
    let mut checked = 0;
    for (path, text) in sources() {
        let rules = MAY_NAME.iter().filter(|(folder, _)| path.starts_with(folder));
        let allowed = rules.max_by_key(|(folder, _)| folder.len()).map_or(&[][..], |(_, allowed)| allowed);
        let words = Imports::of(&text, &[]).first_words;
        for side in SIDES.iter().filter(|side| words.contains(**side)) {
            assert!(allowed.contains(side), "{} uses {side}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} uses were seen");
}

/// So that all of it runs under an interpreter, and with models that set the time.
#[test]
fn pools_ask_nothing_of_the_system() {
    let system =
        ["crate::sys", "std::fs", "std::os", "std::io", "std::thread", "std::sync", "Instant", "libc", "nix"];
    let mut checked = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/pool")) {
        // Tests share memory to check that it is released.
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if path.ends_with("tests.rs") {
            continue;
        }
        let code = product.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let words: Vec<_> = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').collect();
            let named = system.iter().find(|name| {
                words.iter().any(|word| *word == **name || word.starts_with(&format!("{name}::")))
            });
            assert!(named.is_none(), "{}: {line}", path.display());
        }
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} files were seen");
}

#[test]
fn every_module_of_the_library_has_a_floor() {
    let contents = fs::read_to_string(root().join("src/lib.rs")).expect("readable");
    let module = |line: &'static str| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';');
    let modules: Vec<_> = contents.leak().lines().filter_map(module).collect();
    assert_eq!(modules, FLOORS[0].1, "src/lib.rs lists the floors, lowest first");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (path, text) in sources() {
        let in_sys = path.components().any(|part| part.as_os_str() == "sys");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let words = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"];
        let uses = code.filter(|line| words.iter().any(|word| line.contains(word))).count();
        assert!(
            uses == 0 || in_sys || path.ends_with("tests/floors.rs"),
            "{} has unsafe code",
            path.display()
        );
    }
}

/// If a program had the same symbol, it would be another function.
#[test]
fn functions_have_names_for_the_linker_in_the_libraries_for_c_alone() {
    let mut named = 0;
    for (path, text) in sources() {
        let names = text.lines().filter(|line| line.trim_start().starts_with("#[unsafe(")).count();
        let may = ["client/c/src", "client/preload/src", "graphics/mapper/src"]
            .iter()
            .any(|folder| path.starts_with(folder));
        assert!(names == 0 || may, "{} exports symbols", path.display());
        named += names;
    }
    assert!(named > 40, "only {named} functions were seen");
}

/// This makes the ownership of inherited descriptors sound; the compiler cannot check it.
#[test]
fn inherited_descriptors_are_owned_before_anything_is_opened() {
    let first = |path: &str, function: &str| {
        let text = fs::read_to_string(root().join(path)).expect("readable");
        text.split(function).nth(1).and_then(|body| body.lines().next()).map(|line| line.trim().to_owned())
    };
    let (main, call) = ("anion::daemon::main()", "sys::own_inherited_descriptors()");
    assert_eq!(first("src/main.rs", "fn main() -> ExitCode {\n").as_deref(), Some(main));
    let begin = first("src/daemon/mod.rs", "pub fn main() -> ExitCode {\n");
    assert!(
        begin.as_ref().is_some_and(|line| line.ends_with(&format!("= {call};"))),
        "it begins with {begin:?}"
    );
    let others = || sources().into_iter().filter(|(path, _)| !path.ends_with("tests/floors.rs"));
    for name in [main, call] {
        let calls: usize = others().map(|(_, text)| text.matches(name).count()).sum();
        assert_eq!(calls, 1, "no other code calls {name}, whichever way it is spelled");
    }
}

/// Returns the second argument of each `Result` with two arguments.
fn error_types(code: &str) -> Vec<String> {
    let second = |(at, name): (usize, &str)| {
        let (mut depth, mut error, mut before) = (0, None, ' ');
        for c in code[at + name.len()..].chars() {
            match c {
                ',' if depth == 0 => drop(error.get_or_insert_with(String::new)),
                '>' if depth == 0 && before != '-' => break,
                c if !c.is_whitespace() => error.iter_mut().for_each(|text| text.push(c)),
                _ => {}
            }
            depth += i32::from("<([".contains(c)) - i32::from(">)]".contains(c) && before != '-');
            before = c;
        }
        error
    };
    code.match_indices("Result<").filter_map(second).collect()
}

#[test]
fn errors_are_types_and_not_strings() {
    let code = "fn f(g: fn(u8) -> io::Result<String>) -> Result<Vec<(u8, String)>,\n    String,\n> {}\n\
                type R = Result<fn(u8) -> u8, Box<E>>;";
    assert_eq!(error_types(code), ["String", "Box<E>"]);
    let mut checked = 0;
    for (path, text) in sources() {
        if !["src", "client", "anionctl", "graphics", "memory", "ipc"]
            .iter()
            .any(|folder| path.starts_with(folder))
        {
            continue;
        }
        let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let errors = error_types(&code.join("\n"));
        assert!(!errors.contains(&"String".to_owned()), "{} has Result<_, String>", path.display());
        for error in ["type Err = String;", "type Error = String;"] {
            assert!(!text.contains(error), "{} has {error}", path.display());
        }
        // There is no other way to get the text of a panic.
        let is_panic = |line: &str| line.contains("::<&str>()") || line.contains("::<String>");
        let asks_inside =
            |line: &&&str| line.contains(".get_ref()") || line.contains("downcast") && !is_panic(line);
        let asking = code.iter().find(asks_inside);
        assert!(asking.is_none(), "{} looks for an error inside another: {asking:?}", path.display());
        checked += errors.len();
    }
    assert!(checked > 100, "only {checked} errors were seen");
}

#[test]
fn generated_types_stop_at_the_service() {
    for (path, text) in sources() {
        for (name, knowing) in [
            ("vendor_anion_allocator", &["src/service", "src/daemon", "client"][..]),
            ("android_hardware_", &["src/graphics", "src/daemon"]),
        ] {
            let knows = knowing.iter().any(|folder| path.starts_with(folder));
            let is_bound = floor_of(&path).is_some() && !knows;
            assert!(!is_bound || !text.contains(name), "{} knows AIDL types", path.display());
        }
    }
}

#[test]
fn the_binder_library_is_named_at_its_seam_alone() {
    for (path, text) in sources() {
        let seam = path.starts_with("ipc") || path.starts_with("aidl");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // In quotes it is the target of log lines.
        let names = code.filter(|line| line.contains("rsbinder::") && !line.contains("\"rsbinder::")).count();
        assert!(names == 0 || seam || path.ends_with("tests/floors.rs"), "{} names rsbinder", path.display());
    }
}

#[test]
fn files_are_short_and_say_their_licence() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("// SPDX-License-Identifier: Apache-2.0\n"),
            "{} has no licence",
            path.display()
        );
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: split it", path.display());
    }
}
