// SPDX-License-Identifier: Apache-2.0
//! The architecture as a test: an import goes down, never up, and what belongs in one place stays there.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A module may use those before it.
const FLOORS: [&str; 9] =
    ["units", "sys", "config", "ledger", "pool", "source", "heap", "allocator", "service"];

/// The other side of the interface, beside the floors: it sees these and nothing in between.
const CLIENT: &str = "client";
const SEEN_BY_CLIENTS: [&str; 3] = ["units", "sys", CLIENT];

/// Lines of a source file before it has to be split.
const MAX_LINES: usize = 420;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository with its path from the root, except what cargo builds.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let tops =
        ["src", "aidl", "ipc", "vts", "contract", "xtask", "rustutils", "tests", "benches", "examples"];
    let mut folders: Vec<_> = tops.into_iter().map(|top| root().join(top)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("readable");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 40, "only {} files found", found.len());
    found
}

/// The module below `src/` that a file belongs to.
fn floor_of(path: &Path) -> Option<usize> {
    let below = path.strip_prefix("src").ok()?;
    let module = below.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs");
    FLOORS.iter().position(|floor| *floor == module)
}

/// Modules of this crate that a source text names.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn imports_go_down() {
    let mut checked = 0;
    for (path, text) in sources() {
        let Some(here) = floor_of(&path) else { continue };
        for import in imports(&text) {
            if let Some(there) = FLOORS.iter().position(|floor| *floor == import) {
                assert!(there <= here, "{} is on floor {} and uses {import}", path.display(), FLOORS[here]);
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} imports were seen");
}

#[test]
fn config_and_ledger_know_only_units() {
    for (path, text) in sources() {
        if path.starts_with("src/config") || path.starts_with("src/ledger") {
            let own = if path.starts_with("src/config") { "config" } else { "ledger" };
            for import in imports(&text).filter(|import| FLOORS.contains(import)) {
                assert!(import == "units" || import == own, "{} uses {import}", path.display());
            }
        }
    }
}

/// A client library that knew the service's inside would not be one.
#[test]
fn the_client_library_knows_only_units_and_sys() {
    let mut checked = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/client")) {
        for import in imports(&text) {
            assert!(SEEN_BY_CLIENTS.contains(&import), "{} uses {import}", path.display());
            checked += 1;
        }
    }
    for (path, text) in sources().into_iter().filter(|(path, _)| floor_of(path).is_some()) {
        assert!(!imports(&text).any(|import| import == CLIENT), "{} uses the client library", path.display());
    }
    assert!(checked > 5, "only {checked} imports were seen");
}

/// So that all of it runs under an interpreter, and against models that set the time.
#[test]
fn pools_ask_nothing_of_the_system() {
    let system =
        ["crate::sys", "std::fs", "std::os", "std::io", "std::thread", "std::sync", "Instant", "libc", "nix"];
    let mut checked = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/pool")) {
        // Tests share memory to see that it is given back.
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
    let modules: Vec<_> =
        contents.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let expected: Vec<_> = FLOORS.into_iter().chain([CLIENT]).collect();
    assert_eq!(modules, expected, "src/lib.rs lists the floors, lowest first, and the client library");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (path, text) in sources() {
        let in_sys = path.components().any(|part| part.as_os_str() == "sys");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code.filter(|line| line.contains("unsafe {") || line.contains("unsafe impl")).count();
        assert!(
            uses == 0 || in_sys || path.ends_with("tests/floors.rs"),
            "{} has unsafe code",
            path.display()
        );
    }
}

/// What makes it sound to own what was inherited; the compiler cannot see it.
#[test]
fn inherited_descriptors_are_owned_before_anything_is_opened() {
    let call = "sys::own_inherited_descriptors()";
    let main = fs::read_to_string(root().join("src/main.rs")).expect("readable");
    let first = main.split("fn main() -> ExitCode {\n").nth(1).and_then(|body| body.lines().next());
    assert!(first.is_some_and(|line| line.ends_with(&format!("= {call};"))), "main begins with {first:?}");
    let calls: usize = sources()
        .iter()
        .filter(|(path, _)| !path.ends_with("tests/floors.rs"))
        .map(|(_, text)| text.matches(call).count())
        .sum();
    assert_eq!(calls, 1, "nobody else calls it, whichever way it is spelled");
}

#[test]
fn generated_types_stop_at_the_service() {
    for (path, text) in sources() {
        if floor_of(&path).is_some() && !path.starts_with("src/service") {
            assert!(!text.contains("vendor_anion_allocator"), "{} knows AIDL types", path.display());
        }
    }
}

#[test]
fn the_binder_library_is_named_at_its_seam_alone() {
    for (path, text) in sources() {
        let seam = path.starts_with("ipc") || path.starts_with("aidl");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // In quotes it is the target of its log lines.
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
