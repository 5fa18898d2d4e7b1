// SPDX-License-Identifier: Apache-2.0
//! Parses the modules and crates in a source text, in all forms: `use` with nested groups and
//! globs, `super::super`, paths in expressions, and modules within the file.

use std::collections::BTreeSet;

/// A path from the root of its crate, such as `["sys", "fd", "inode"]`.
type Path = Vec<String>;

/// The paths in a source text.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    /// Paths within its own crate.
    pub(crate) own: BTreeSet<Path>,
    /// First words of all other paths: crates, and whatever is in scope.
    pub(crate) first_words: BTreeSet<String>,
}

impl Imports {
    /// Parses a source text. `module` is the path of the file's own module, empty for the root of
    /// the crate.
    pub(crate) fn of(text: &str, module: &[&str]) -> Self {
        let tokens = tokens(text);
        let mut found = Self::default();
        let mut module: Path = module.iter().map(ToString::to_string).collect();
        // The depths of braces at which modules within the file begin.
        let (mut depth, mut inner) = (0, Vec::new());
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = |steps: usize| tokens.get(at + steps).map_or("", String::as_str);
            match token.as_str() {
                "mod" if next(2) == "{" => {
                    module.push(next(1).to_owned());
                    inner.push(depth);
                    (depth, at) = (depth + 1, at + 2);
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inner.last() == Some(&depth) {
                        inner.pop();
                        module.pop();
                    }
                }
                "use" => at = found.tree(&tokens, at + 1, &Start::Word(&module)) - 1,
                word if is_word(word) && next(1) == "::" => {
                    at = found.tree(&tokens, at, &Start::Word(&module)) - 1;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Returns the named modules at the crate's root; `*` means all of them.
    pub(crate) fn roots(&self) -> BTreeSet<&str> {
        self.own.iter().map(|path| path.first().map_or("*", String::as_str)).collect()
    }

    /// Parses a tree of paths; returns the index of the first token after it.
    fn tree(&mut self, tokens: &[String], at: usize, start: &Start<'_>) -> usize {
        let token = |at: usize| tokens.get(at).map_or("", String::as_str);
        if token(at) == "{" {
            let mut at = at + 1;
            while !["}", ""].contains(&token(at)) {
                at = self.tree(tokens, at, start);
                // The new name of a renamed item, and the comma.
                while !["}", ",", ""].contains(&token(at)) {
                    at += 1;
                }
                at += usize::from(token(at) == ",");
            }
            return at + 1;
        }
        if token(at) == "::" {
            return self.tree(tokens, at + 1, start);
        }
        if !is_word(token(at)) {
            // A glob, or the type arguments of a path.
            self.name(start);
            return at + usize::from(token(at) == "*");
        }
        let start = start.then(token(at));
        if token(at + 1) == "::" {
            return self.tree(tokens, at + 2, &start);
        }
        self.name(&start);
        at + 1
    }

    fn name(&mut self, start: &Start<'_>) {
        match start {
            Start::Own(path) => {
                self.own.insert(path.clone());
            }
            Start::Other(word) => {
                self.first_words.insert(word.clone());
            }
            Start::Word(_) => {}
        }
    }
}

/// The beginning of a path.
enum Start<'m> {
    /// Nothing was read; the module that contains the path.
    Word(&'m Path),
    /// The path is in the own crate.
    Own(Path),
    /// The path begins with another word than `crate`, `super` and `self`.
    Other(String),
}

impl Start<'_> {
    fn then(&self, word: &str) -> Start<'static> {
        let parent = |path: &Path| path[..path.len().saturating_sub(1)].to_vec();
        match (self, word) {
            (Self::Word(_), "crate") => Start::Own(Vec::new()),
            (Self::Word(module), "super") => Start::Own(parent(module)),
            (Self::Word(module), "self") => Start::Own((*module).clone()),
            (Self::Word(_), word) => Start::Other(word.to_owned()),
            (Self::Own(path), "super") => Start::Own(parent(path)),
            (Self::Own(path), "self") => Start::Own(path.clone()),
            (Self::Own(path), word) => Start::Own([path.as_slice(), &[word.to_owned()]].concat()),
            (Self::Other(first), _) => Start::Other(first.clone()),
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns words, `::` and single characters, without comments, strings and quoted characters.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_in_word = |c: char| c.is_alphanumeric() || c == '_';
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = quoted(rest) {
            length
        } else if is_in_word(first) {
            let length = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
            found.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            found.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                found.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    found
}

/// Returns the length of the string or quoted character at the start of a text.
fn quoted(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let unprefixed = &text[prefix..];
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", &raw[..hashes]);
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let quote = unprefixed.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let mut characters = unprefixed.char_indices().skip(1);
    let mut count = 0;
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
                // The next characters are quoted: a lifetime has no backslash.
                count = 1;
                continue;
            }
            _ if character == quote => return Some(prefix + at + 1),
            // A lifetime.
            _ if quote == '\'' && count == 1 && !text[prefix + 1..].starts_with('\\') => return None,
            _ => count += 1,
        }
    }
    None
}

#[test]
fn every_form_of_an_import_is_seen() {
    let roots = |text: &str, module: &[&str]| -> Vec<String> {
        Imports::of(text, module).roots().into_iter().map(str::to_owned).collect()
    };
    for (text, module, expected) in [
        ("use crate::sys::fd;", &["heap"][..], &["sys"][..]),
        ("use crate::{heap, pool::{Pool, Stored}, units};", &["heap"], &["heap", "pool", "units"]),
        (
            "use crate::{sys::{fd::{self, inode}, map as maps}, ledger as books};",
            &["heap"],
            &["ledger", "sys"],
        ),
        ("pub(crate) use {crate::heap::Heap, std::io};", &["sys"], &["heap"]),
        ("use super::super::service::{self, status};", &["heap", "tests"], &["service"]),
        ("use super::super::{allocator, source::*};", &["heap", "tests"], &["allocator", "source"]),
        ("use super::units;", &["heap"], &["units"]),
        ("use super::units;", &["heap", "tests"], &["heap"]),
        ("use self::inner::X; use super::{super::pool, Y};", &["heap", "tests"], &["heap", "pool"]),
        ("mod tests { use super::super::service; } use super::sys;", &["heap"], &["service", "sys"]),
        (
            "mod a { fn f() { g() } mod b { use super::super::X; } } use super::sys;",
            &["heap"],
            &["heap", "sys"],
        ),
        (
            "fn f() -> crate::heap::Heap<'_> { crate::pool::new::<crate::sys::X>() }",
            &["units"],
            &["heap", "pool", "sys"],
        ),
        ("use crate::*;", &["heap"], &["*"]),
        ("use super::*;", &["heap"], &["*"]),
        ("use super::*;", &["heap", "tests"], &["heap"]),
        ("use crate :: /* all of it */ {\n    // no comment\n    heap,\n};", &["sys"], &["heap"]),
        (
            "// use crate::heap;\n/* crate::heap */ let a = \"crate::heap\"; let b = r#\"crate::\"pool\"#;",
            &["sys"],
            &[],
        ),
        (
            "let c = ['\"', '\\'', '\\\\']; let d = crate::heap::X; let e = \"\\\"crate::pool\";",
            &["sys"],
            &["heap"],
        ),
        ("impl<'a> X<'a> { fn f(&'a self) -> &'a str { crate::heap::name() } }", &["sys"], &["heap"]),
        ("pub(crate) struct X; pub(in crate::heap) struct Y;", &["sys"], &["heap"]),
        ("macro!(crate::heap::X, vec![super::pool::Y]);", &["sys"], &["heap", "pool"]),
    ] {
        assert_eq!(roots(text, module), expected, "{text}");
    }
}

#[test]
fn other_crates_are_seen_too() {
    let words = |text: &str| Imports::of(text, &["heap"]).first_words.into_iter().collect::<Vec<_>>();
    assert_eq!(words("use anion_client::{self, Client};"), ["anion_client"]);
    assert_eq!(
        words("use {anion_ipc::Strong, ::anion_client as c, crate::sys};"),
        ["anion_client", "anion_ipc"]
    );
    assert_eq!(words("use anion_client;"), ["anion_client"]);
    assert_eq!(words("let _ = anion_client::Client::connect(); // anion_ipc::X"), ["anion_client"]);
}
