// SPDX-License-Identifier: Apache-2.0
//! Compares the table of environment variables in docs/linux.md with the variables in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The folders of the programs and libraries that users run.
const FOLDERS: [&str; 8] =
    ["src", "anionctl/src", "client", "examples", "ipc/src", "memory/src", "rustutils/src", "vts/src"];

/// The texts before the name of a variable.
const READERS: [&str; 6] =
    ["env = \"", "env::var(\"", "env::var_os(\"", "variable(\"", "getenv(c\"", "\"ANION_"];

/// Variables of tests in the same files, or of a library that reads them itself.
const OTHERS: [&str; 1] = ["ANION_TEST_ATTEMPT"];

/// Calls `take` with every Rust source below a folder, except test files.
fn each_source(folder: &Path, take: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            each_source(&path, take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// Returns the variables in a text.
fn variables(text: &str) -> impl Iterator<Item = String> {
    READERS.iter().flat_map(move |reader| {
        let begin = if *reader == "\"ANION_" { 1 } else { reader.len() };
        text.match_indices(reader).filter_map(move |(at, _)| {
            let name = text[at + begin..].split('"').next()?;
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
        })
    })
}

#[test]
fn the_table_has_all_variables_and_no_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = BTreeSet::new();
    for folder in FOLDERS {
        each_source(&root.join(folder), &mut |text| named.extend(variables(text)));
    }
    // env::home_dir() reads it.
    named.insert("HOME".to_owned());
    OTHERS.iter().for_each(|name| assert!(named.remove(*name), "{name} is not named any more"));
    let page = fs::read_to_string(root.join("docs/linux.md")).expect("the page");
    let table = page.split("\n## Environment\n").nth(1).expect("the section");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let listed: BTreeSet<String> = rows
        .flat_map(|cell| cell.split('`').filter(|word| !word.trim_matches([',', ' ']).is_empty()))
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, named);
}
