// SPDX-License-Identifier: Apache-2.0
//! Checks the rules of CONTRIBUTING.md on the words of comments and documents, as far as a program
//! can.

use std::fs;
use std::path::{Path, PathBuf};

/// Most columns of a comment line.
const MAX_COLUMNS: usize = 100;

/// Most characters of a paragraph: five lines of 120 columns.
const MAX_PARAGRAPH: usize = 600;

/// Endings of files whose comments begin with `#`.
const HASH: [&str; 13] = [
    ".sh",
    ".toml",
    ".service",
    ".socket",
    ".conf",
    ".rules",
    ".rc",
    ".te",
    "te_macros",
    ".policy",
    ".fragment",
    "postinst",
    "postrm",
];

/// Ambiguous phrases in lower case, and their replacements.
const PHRASES: [(&str, &str); 13] = [
    ("whoever", "the process, the client or the uid that is meant"),
    ("passed over", "skipped"),
    ("passes over", "skips"),
    ("held ready", "reserved, or preallocated"),
    ("holds ready", "reserves, or preallocates"),
    ("made ahead", "preallocated"),
    ("for want of", "for lack of"),
    ("behind the cpu's back", "without the CPU"),
    ("was let go of", "released"),
    ("lets go of", "releases"),
    ("made ready ahead", "preallocated"),
    ("whomever", "the client or the uid that is meant"),
    ("gives back what it took", "releases what it allocated"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files of the repository with one of these endings, sorted; skips build output,
/// frozen interfaces and code that is generated from interfaces.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let (mut directories, mut found) = (vec![root().to_owned()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().expect("a type").is_dir() {
                let is_ours =
                    !name.starts_with('.') && !matches!(&*name, "target" | "aidl_api" | "generated");
                directories.extend(is_ours.then_some(path));
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{endings:?}");
    found
}

/// Returns the results of `fault` for the lines of all files with these endings, with file and
/// line.
fn faults(endings: &[&str], fault: impl Fn(&Path, &[&str], usize) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for path in files(endings) {
        let bytes = fs::read(&path).expect("a file");
        // One device tree has a comment in another encoding.
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let place = path.strip_prefix(root()).expect("below it").display();
        let of_line = |at| fault(&path, &lines, at).map(|why| format!("{place}:{}: {why}", at + 1));
        faults.extend((0..lines.len()).filter_map(of_line));
    }
    faults
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} places:\n{}", faults.len(), faults.join("\n"));
}

/// Returns the text of a line of documentation.
fn documentation(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("///").map(str::trim_start)
}

/// Returns the line of the item that the documentation at `at` describes, and its attributes.
fn item<'a>(lines: &[&'a str], at: usize) -> (&'a str, Vec<&'a str>) {
    let mut attributes = Vec::new();
    for line in lines[at..].iter().map(|line| line.trim_start()) {
        if line.starts_with("#[") {
            attributes.push(line);
        } else if !line.starts_with("///") {
            return (line, attributes);
        }
    }
    ("", attributes)
}

/// Returns whether an item is a function: nothing but qualifiers comes before the keyword.
fn is_function(item: &str) -> bool {
    let is_qualifier = |c: char| c.is_ascii_lowercase() || " ()\"C-".contains(c);
    let found = item.split_once("fn ").is_some_and(|(before, _)| before.chars().all(is_qualifier));
    found && (item.starts_with("fn ") || item.contains(" fn "))
}

/// Returns whether a word has the form of a verb in the third person.
fn is_verb(word: &str) -> bool {
    let word = word.trim_end_matches([',', '.', ':']);
    let is_form = word.starts_with(|c: char| c.is_ascii_uppercase()) && word.ends_with('s');
    is_form && !matches!(word, "As" | "Its" | "Is" | "This" | "Others" | "Unless" | "Bytes" | "Pages")
}

/// Returns whether documentation is of tests: their names are sentences, and their documentation
/// adds to them.
fn is_of_tests(path: &Path, attributes: &[&str], lines: &[&str], at: usize) -> bool {
    let path = path.to_string_lossy();
    let is_test = |attribute: &&str| attribute.starts_with("#[test]") || attribute.starts_with("#[ignore");
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || attributes.iter().any(is_test)
        || lines[..at].iter().any(|line| line.trim_start().starts_with("mod tests {"))
}

#[test]
fn documentation_of_a_function_begins_with_what_it_does() {
    let fault = |path: &Path, lines: &[&str], at: usize| {
        let first = documentation(lines[at])?;
        let is_first = at == 0 || documentation(lines[at - 1]).is_none();
        let (item, attributes) = item(lines, at);
        let concerns = is_first && is_function(item) && !is_of_tests(path, &attributes, lines, at);
        let word = first.split_whitespace().next().unwrap_or_default();
        let is_magic = item.contains("fn __");
        (concerns && !is_magic && !is_verb(word)).then(|| format!("{first:?} does not begin with a verb"))
    };
    none(&faults(&[".rs"], fault));
}

/// Returns the fault of a line that is a comment, if it begins with one of `marks`.
fn too_wide(line: &str, marks: &[&str]) -> Option<String> {
    let columns = line.chars().count();
    let is_comment = marks.iter().any(|mark| line.trim_start().starts_with(mark)) && !line.contains("http");
    (is_comment && columns > MAX_COLUMNS).then(|| format!("{columns} columns, {MAX_COLUMNS} at most"))
}

#[test]
fn comments_fit_their_columns() {
    let of = |marks: &'static [&str]| move |_: &Path, lines: &[&str], at: usize| too_wide(lines[at], marks);
    none(&faults(&[".rs", ".hpp", ".bp"], of(&["//"])));
    none(&faults(&[".aidl", ".c", ".h", ".cpp", ".dts", ".map"], of(&["//", "/*", "*"])));
    none(&faults(&HASH, of(&["#"])));
    none(&faults(&[".py", ".pyi"], of(&["#"])));
}

/// Returns the paragraphs of a page, each joined to one line, with the number of its first line. A
/// list item is a paragraph; headings, tables, code and comments are not.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let is_item = |line: &str| {
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        line.starts_with("- ") || line.starts_with("* ") || digits.starts_with(". ") && digits != line
    };
    let (mut found, mut is_code, mut is_open) = (Vec::<(usize, String)>::new(), false, false);
    for (at, line) in text.lines().map(str::trim).enumerate() {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        if is_code || is_fence || line.is_empty() || line.starts_with(['#', '|', '<']) {
            is_open = false;
        } else if let Some((_, paragraph)) = found.last_mut().filter(|_| is_open && !is_item(line)) {
            *paragraph = format!("{paragraph} {line}");
        } else {
            found.push((at + 1, line.to_owned()));
            is_open = true;
        }
    }
    found
}

#[test]
fn paragraphs_of_pages_are_short() {
    let mut long = Vec::new();
    for path in files(&[".md"]) {
        let place = path.strip_prefix(root()).expect("below it").to_owned();
        // Generated from the help texts.
        if place.starts_with("docs/commands") {
            continue;
        }
        for (line, paragraph) in paragraphs(&fs::read_to_string(&path).expect("text")) {
            let length = paragraph.chars().count();
            if length > MAX_PARAGRAPH {
                long.push(format!(
                    "{}:{line}: {length} characters, {MAX_PARAGRAPH} at most",
                    place.display()
                ));
            }
        }
    }
    none(&long);
}

#[test]
fn phrases_with_two_readings_are_not_used() {
    let own = Path::new(file!()).file_name().expect("a name").to_owned();
    let fault = |path: &Path, lines: &[&str], at: usize| {
        let line = lines[at].to_lowercase();
        let found = PHRASES.iter().find(|(phrase, _)| line.contains(phrase))?;
        (path.file_name() != Some(&own)).then(|| format!("{:?}; {} is meant", found.0, found.1))
    };
    none(&faults(&[".rs", ".md", ".aidl", ".c", ".h", ".cpp", ".hpp", ".dts", ".py", ".pyi"], fault));
    none(&faults(&HASH, fault));
}

#[test]
fn the_rules_find_what_they_are_for() {
    let lines = ["/// The service.", "#[must_use]", "pub(crate) const fn service() {}", "/// Returns it."];
    assert_eq!(item(&lines, 0), ("pub(crate) const fn service() {}", vec!["#[must_use]"]));
    assert!(is_function(item(&lines, 0).0) && !is_function("pub struct Service;"));
    assert!(is_function("extern \"C\" fn f()") && !is_function("fnord()") && !is_function("let fn_ = fn f"));
    for (word, is_one) in
        [("Returns", true), ("The", false), ("As", false), ("Makes,", true), ("asks", false)]
    {
        assert_eq!(is_verb(word), is_one, "{word}");
    }
    let wide = format!("     * {}", "x".repeat(MAX_COLUMNS));
    assert!(too_wide(&wide, &["//", "*"]).is_some() && too_wide(&wide, &["#"]).is_none());
    let page = "# Title\n\nOne\ntwo.\n- three\n  four\n1. five\n\n```\ncode\n\ncode\n```\n| a |\n";
    let found = paragraphs(page);
    assert_eq!(
        found,
        [(3, "One two."), (5, "- three four"), (7, "1. five")].map(|(at, text)| (at, text.into()))
    );
}
