// SPDX-License-Identifier: Apache-2.0
//! Reads device-tree source as `dtc` does: merges nodes, applies `&label { }` and the deletions in
//! file order, and assigns phandles to referenced nodes at the end.
//!
//! It has its own grammar, with `winnow`. Of the maintained parsers, `ginko` drops the content of
//! expressions and the width in `/bits/`; `tree-sitter-devicetree` takes minutes for a hostile
//! megabyte and gigabytes of memory for 16. This one takes linear time, bounded depth and memory,
//! and reports what it expected at which character.

mod expression;
mod lexical;
mod places;
mod references;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use winnow::Parser;
use winnow::combinator::opt;
use winnow::stream::Location;

use self::lexical::{
    Input, Parsed, Reference, blanks, expected, labels, malformed, name, number, reference, require, rest,
    skip, string,
};
use self::places::Places;
use self::value::{Piece, list};
use super::diagnostic::{Report, Severity};
use super::tree::{ADD_THE_BASE, MAX_BYTES, NodeId, Property, Tree, TreeLimit, Unusable, Value};

/// Words after `#` that are directives of the C preprocessor.
const DIRECTIVES: &[&str] = &[
    "include", "define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "error", "warning",
    "pragma",
];

/// Reads `text`. Returns `None` after a syntax error, which is then in `report`: a broken text is
/// not interpreted.
pub(super) fn read(text: &str, report: &mut Report) -> Option<Tree> {
    let mut source = Source {
        places: Places::new(text),
        tree: Tree::new(),
        labels: BTreeMap::new(),
        waiting: BTreeMap::new(),
        open: Vec::new(),
        unknown: BTreeSet::new(),
        path_room: MAX_BYTES,
        fragments: None,
        report,
    };
    let mut input = Input::new(text);
    match source.file(&mut input) {
        Ok(()) => {
            source.resolve();
            source.tree.index_phandles();
            let labels = source.labels.iter().filter(|(_, node)| source.tree.is_attached(**node));
            source.tree.labels = labels.map(|(label, node)| ((*label).to_owned(), *node)).collect();
            Some(source.tree)
        }
        Err(error) => {
            if let Ok(syntax) = error.into_inner() {
                let position = source.places.at(syntax.offset);
                let node =
                    source.open.last().map_or_else(|| "/".to_owned(), |node| source.tree.path(node.id));
                source.report.add_last(node, position, syntax.message);
            }
            None
        }
    }
}

/// A node whose closing brace has not been read yet.
struct OpenNode<'t> {
    id: NodeId,
    /// Properties of this body. A second value of one is an error that merging would hide.
    seen: BTreeSet<&'t str>,
}

struct Source<'t, 'r> {
    places: Places<'t>,
    tree: Tree,
    labels: BTreeMap<&'t str, NodeId>,
    /// Values with unresolved references, by node and property.
    waiting: BTreeMap<(NodeId, &'t str), Vec<Piece<'t>>>,
    open: Vec<OpenNode<'t>>,
    /// Extended nodes that are missing here, each to be reported once.
    unknown: BTreeSet<Reference<'t>>,
    /// Bytes that paths may still add to the tree: a short reference can stand for a long path.
    path_room: usize,
    /// Number of fragments, if the text is an overlay (`/plugin/`).
    fragments: Option<usize>,
    report: &'r mut Report,
}

impl<'t> Source<'t, '_> {
    fn file(&mut self, input: &mut Input<'t>) -> Parsed<()> {
        // Windows editors put a mark before UTF-8.
        skip(input, "\u{feff}")?;
        blanks(input)?;
        if skip(input, "/dts-v1/")? {
            require(input, ";", "after /dts-v1/")?;
        } else {
            self.say(Severity::Note, input, "there is no /dts-v1/; so it is read as a part of a device tree");
        }
        while !rest(input).is_empty() {
            match self.open.last().map(|node| node.id) {
                Some(node) => self.in_node(input, node)?,
                None => self.at_top(input)?,
            }
        }
        if self.open.is_empty() { Ok(()) } else { expected(input, "`}` to close this node") }
    }

    fn at_top(&mut self, input: &mut Input<'t>) -> Parsed<()> {
        if self.anywhere(input)? || self.memory_reservation(input)? {
            return Ok(());
        }
        if skip(input, "/plugin/")? {
            self.fragments.get_or_insert(0);
            return require(input, ";", "after the directive");
        }
        if skip(input, "/dts-v1/")? {
            return require(input, ";", "after the directive");
        }
        if skip(input, "/delete-node/")? {
            return self.delete_target(input);
        }
        let labels = labels(input)?;
        let start = *input;
        let id = if rest(input).starts_with('&') {
            let target = reference(input)?;
            let is_overlay = self.fragments.is_some();
            // In an overlay a path refers to the tree below it, even if the overlay has a node at
            // that path.
            let own =
                if is_overlay && matches!(target, Reference::Path(_)) { None } else { self.target(&target) };
            match own {
                Some(id) => id,
                None if is_overlay => self.fragment(&start, &target)?,
                None => self.unknown_target(&start, &target)?,
            }
        } else if skip(input, "/")? {
            self.tree.root()
        } else {
            return expected(input, "`/ {` or `&label {`");
        };
        self.open_node(input, id, &labels)
    }

    fn in_node(&mut self, input: &mut Input<'t>, parent: NodeId) -> Parsed<()> {
        if skip(input, "}")? {
            self.open.pop();
            return require(input, ";", "after `}`");
        }
        if self.anywhere(input)? {
            return Ok(());
        }
        if skip(input, "/delete-node/")? {
            return self.delete_child(input, parent);
        }
        if skip(input, "/delete-property/")? {
            return self.delete_property(input, parent);
        }
        let labels = labels(input)?;
        let start = *input;
        let Some(name) = opt(name).parse_next(input)? else {
            return expected(input, "a property, a node or `}`");
        };
        if rest(input).starts_with('{') {
            let position = self.places.at(start.current_token_start());
            let child = fit(&start, self.tree.child(parent, name, Some(position)))?;
            return self.open_node(input, child, &labels);
        }
        self.property(input, &start, parent, name)
    }

    /// Reads an element that may stand at the top level and inside nodes. Returns whether there was
    /// one.
    fn anywhere(&mut self, input: &mut Input<'t>) -> Parsed<bool> {
        let start = *input;
        if skip(input, "/omit-if-no-ref/")? {
            return Ok(true);
        }
        if skip(input, "/include/")? {
            let file = string(input)?;
            blanks(input)?;
            let file = String::from_utf8_lossy(&file).into_owned();
            self.say(
                Severity::Error,
                &start,
                format!(
                    "/include/ {file:?} is not read here: compile the whole tree with dtc and give the .dtb"
                ),
            );
            return Ok(true);
        }
        let Some(word) = rest(input).strip_prefix('#').map(|rest| rest.trim_start_matches([' ', '\t']))
        else {
            return Ok(false);
        };
        let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(word.len());
        if !DIRECTIVES.contains(&&word[..end]) {
            return Ok(false);
        }
        self.directive(input, &word[..end])?;
        Ok(true)
    }

    /// Reads a line for the C preprocessor. Does not guess whether a part between `#if` and
    /// `#endif` applies.
    fn directive(&mut self, input: &mut Input<'t>, word: &str) -> Parsed<()> {
        let start = *input;
        let line: &str = winnow::token::take_till(0.., '\n').parse_next(input)?;
        let shown: String =
            line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
        let message =
            format!("`{shown}` is not read here: run the file through the C preprocessor (cpp) first");
        if word.contains("if") || word == "else" {
            return malformed(&start, message);
        }
        self.say(Severity::Error, &start, message);
        blanks(input)
    }

    fn memory_reservation(&mut self, input: &mut Input<'t>) -> Parsed<bool> {
        let start = *input;
        labels(input)?;
        if !skip(input, "/memreserve/")? {
            *input = start;
            return Ok(false);
        }
        for what in ["an address", "a length"] {
            if opt(number).parse_next(input)?.is_none() {
                return expected(input, what);
            }
            blanks(input)?;
        }
        require(input, ";", "after /memreserve/")?;
        Ok(true)
    }

    fn open_node(&mut self, input: &mut Input<'t>, id: NodeId, labels: &[&'t str]) -> Parsed<()> {
        for label in labels {
            let known = self.labels.insert(label, id).filter(|known| *known != id);
            if known.is_some_and(|known| self.tree.is_attached(known)) {
                return malformed(input, format!("label {label} already belongs to another node"));
            }
        }
        require(input, "{", "after the node's name")?;
        self.open.push(OpenNode { id, seen: BTreeSet::new() });
        Ok(())
    }

    fn property(
        &mut self,
        input: &mut Input<'t>,
        start: &Input<'t>,
        node: NodeId,
        name: &'t str,
    ) -> Parsed<()> {
        let mut pieces = if skip(input, "=")? { list(input)? } else { Vec::new() };
        require(input, ";", "after the property")?;
        let position = Some(self.places.at(start.current_token_start()));
        let twice = self.open.last_mut().is_some_and(|open| !open.seen.insert(name));
        self.waiting.remove(&(node, name));
        let value = match pieces.as_mut_slice() {
            _ if twice => Value::Unusable(Unusable::Twice),
            [] => Value::Bytes(Vec::new()),
            [Piece::Bytes(bytes)] => Value::Bytes(std::mem::take(bytes)),
            _ => {
                self.waiting.insert((node, name), pieces);
                Value::Bytes(Vec::new())
            }
        };
        fit(start, self.tree.set(node, name, Property { value, position }))
    }

    fn delete_target(&mut self, input: &mut Input<'t>) -> Parsed<()> {
        let start = *input;
        let Some(target) = opt(reference).parse_next(input)? else {
            return expected(input, "a &reference after /delete-node/");
        };
        require(input, ";", "after /delete-node/")?;
        let place = self.target(&target).and_then(|node| self.tree.parent(node).map(|parent| (parent, node)));
        match place {
            Some((parent, node)) => {
                let name = self.tree.name(node).to_owned();
                self.tree.remove_child(parent, &name);
            }
            None => self.say(
                Severity::Warning,
                &start,
                format!("{target} does not exist, so it cannot be deleted"),
            ),
        }
        Ok(())
    }

    fn delete_child(&mut self, input: &mut Input<'t>, parent: NodeId) -> Parsed<()> {
        let start = *input;
        if rest(input).starts_with('&') {
            return self.delete_target(input);
        }
        let Some(name) = opt(name).parse_next(input)? else {
            return expected(input, "a node's name after /delete-node/");
        };
        require(input, ";", "after /delete-node/")?;
        if !self.tree.remove_child(parent, name) {
            self.say(
                Severity::Warning,
                &start,
                format!("node {name} does not exist, so it cannot be deleted"),
            );
        }
        Ok(())
    }

    fn delete_property(&mut self, input: &mut Input<'t>, node: NodeId) -> Parsed<()> {
        let start = *input;
        let Some(name) = opt(name).parse_next(input)? else {
            return expected(input, "a property's name after /delete-property/");
        };
        require(input, ";", "after /delete-property/")?;
        self.waiting.remove(&(node, name));
        if !self.tree.remove_property(node, name) {
            self.say(
                Severity::Warning,
                &start,
                format!("property {name} does not exist, so it cannot be deleted"),
            );
        }
        Ok(())
    }

    /// Returns the node that a reference names, if it is in the tree.
    fn target(&self, reference: &Reference<'t>) -> Option<NodeId> {
        match reference {
            Reference::Label(label) => {
                self.labels.get(label).copied().filter(|id| self.tree.is_attached(*id))
            }
            Reference::Path(path) => self.tree.find(path),
        }
    }

    /// Makes a fragment that changes a node of the tree below this overlay. Returns its body.
    fn fragment(&mut self, start: &Input<'t>, target: &Reference<'t>) -> Parsed<NodeId> {
        let number = self.fragments.get_or_insert(0);
        let name = format!("fragment@{number}");
        *number += 1;
        let position = Some(self.places.at(start.current_token_start()));
        let fragment = fit(start, self.tree.child(self.tree.root(), &name, position))?;
        let (key, value) = match target {
            Reference::Label(_) => ("target", Vec::new()),
            Reference::Path(path) => ("target-path", [path.as_bytes(), &[0]].concat()),
        };
        if matches!(target, Reference::Label(_)) {
            self.waiting.insert((fragment, key), vec![Piece::Phandle(target.clone())]);
        }
        fit(start, self.tree.set(fragment, key, Property { value: Value::Bytes(value), position }))?;
        fit(start, self.tree.child(fragment, "__overlay__", position))
    }

    /// Makes a node for an extension of a missing node, so that the rest of the text is still read.
    fn unknown_target(&mut self, start: &Input<'t>, target: &Reference<'t>) -> Parsed<NodeId> {
        if self.unknown.insert(target.clone()) {
            let message =
                format!("{target} is not defined above, so its extension is ignored: {ADD_THE_BASE}");
            self.say(Severity::Error, start, message);
        }
        fit(start, self.tree.detached())
    }

    fn say(&mut self, severity: Severity, place: &Input<'t>, message: impl Into<String>) {
        let position = self.places.at(place.current_token_start());
        let node = match self.open.last().filter(|_| !self.report.is_full()) {
            Some(node) => self.tree.path(node.id),
            None => "/".to_owned(),
        };
        self.report.add(severity, node, Some(position), message);
    }
}

/// Converts an exceeded limit of the tree to an error in the text.
fn fit<T>(place: &Input<'_>, result: Result<T, TreeLimit>) -> Parsed<T> {
    result.or_else(|limit| malformed(place, limit.to_string()))
}
