// SPDX-License-Identifier: Apache-2.0
//! Applies overlays: trees that change another one, as `fdtoverlay` and boot loaders do. A fragment
//! names the node that it changes (`target`, `target-path`) and contains the changes
//! (`__overlay__`). `__fixups__` lists references to the other tree by label, `__local_fixups__`
//! lists references to the overlay itself by position.

mod links;

use std::collections::HashMap;

pub(super) use self::links::Fix;
use self::links::Links;
use super::property::{cell, read, text};
use super::tree::{NodeId, Property, Tree, TreeLimit, Value};

const BODY: &str = "__overlay__";
const SYMBOLS: &str = "__symbols__";
const FIXUPS: &str = "__fixups__";
const LOCAL_FIXUPS: &str = "__local_fixups__";
const PHANDLES: [&str; 2] = ["phandle", "linux,phandle"];

/// An overlay that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It has no fragment.
    #[error("it is no overlay: no node has {BODY}")]
    NotOne,
    /// It refers to labels, and the tree to be changed has none.
    #[error("it refers to &{0}, but the tree below it has no labels (__symbols__): compile that with dtc -@")]
    NoSymbols(String),
    /// It refers to a label that the tree to be changed does not have.
    #[error("it refers to &{0}, which the tree below it does not define")]
    NoSymbol(String),
    /// A fragment changes a node that does not exist.
    #[error("{fragment} changes {target}, which the tree below it does not have")]
    NoTarget {
        /// Path of the fragment.
        fragment: String,
        /// The name.
        target: String,
    },
    /// A fragment does not name a node to change.
    #[error("{0} has neither target nor target-path")]
    Untargeted(String),
    /// A list of references does not fit the overlay.
    #[error("{list} names {entry}, which is no cell of the overlay")]
    Fixup {
        /// The node that lists references.
        list: &'static str,
        /// The value.
        entry: String,
    },
    /// No phandles are left.
    #[error("the phandles of both trees together are more than 32 bits")]
    Phandles,
    /// The result is larger than any real tree.
    #[error(transparent)]
    Limit(#[from] TreeLimit),
}

/// Returns whether the tree is an overlay.
pub(super) fn is_overlay(tree: &Tree) -> bool {
    fragments(tree).next().is_some()
}

/// Returns the fragments with their bodies.
fn fragments(tree: &Tree) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
    tree.children(tree.root()).filter_map(|fragment| Some((fragment, tree.child_named(fragment, BODY)?)))
}

/// Applies `overlay` to `base`. Nodes and properties of the overlay lose their positions in the
/// text.
///
/// # Errors
/// If it is no overlay, refers to a missing part of `base`, or is malformed. The caller must then
/// drop `base`.
pub(super) fn apply(base: &mut Tree, overlay: &Tree) -> Result<(), OverlayError> {
    if !is_overlay(overlay) {
        return Err(OverlayError::NotOne);
    }
    let mut applied = Application {
        overlay,
        links: Links::of(overlay)?,
        symbols: links::symbols(base),
        added: highest_phandle(base),
        next: 0,
        pairs: Vec::new(),
        phandles: HashMap::new(),
        base,
    };
    applied.next = applied
        .added
        .checked_add(highest_phandle(overlay))
        .filter(is_phandle)
        .ok_or(OverlayError::Phandles)?;
    for (fragment, body) in fragments(overlay) {
        let target = applied.target(fragment)?;
        applied.pair(body, target)?;
    }
    for (from, to) in std::mem::take(&mut applied.pairs) {
        applied.copy(from, to)?;
        applied.export(from, to)?;
    }
    base.index_phandles();
    Ok(())
}

fn highest_phandle(tree: &Tree) -> u32 {
    let phandles = tree.walk().into_iter().filter_map(|node| tree.phandle(node));
    phandles.filter(is_phandle).max().unwrap_or(0)
}

/// Returns whether the number is a valid phandle: the two highest have other meanings.
fn is_phandle(number: &u32) -> bool {
    *number < u32::MAX - 1
}

/// State of applying an overlay.
struct Application<'t> {
    base: &'t mut Tree,
    overlay: &'t Tree,
    links: Links,
    symbols: HashMap<String, NodeId>,
    /// Number that is added to the overlay's phandles, so that they differ from those of the base.
    added: u32,
    /// The last phandle that was assigned.
    next: u32,
    /// Nodes of the overlay with the corresponding nodes of the base.
    pairs: Vec<(NodeId, NodeId)>,
    /// Phandles of the overlay whose nodes have another phandle in the base.
    phandles: HashMap<u32, u32>,
}

impl Application<'_> {
    /// Returns the node that a fragment changes.
    fn target(&mut self, fragment: NodeId) -> Result<NodeId, OverlayError> {
        let tree = self.overlay;
        let missing = |target: String| OverlayError::NoTarget { fragment: tree.path(fragment), target };
        if let Some(Fix::Label(label)) = self.links.at(fragment, "target").map(|(_, fix)| fix.clone()) {
            return self.labelled(&label);
        }
        let property = |key| tree.property(fragment, key);
        if let Some(phandle) = property("target").and_then(|property| read(property, cell).ok()) {
            return self.base.by_phandle(phandle).ok_or_else(|| missing(format!("phandle {phandle:#x}")));
        }
        let path = property("target-path").and_then(|property| read(property, text).ok());
        let path = path.ok_or_else(|| OverlayError::Untargeted(tree.path(fragment)))?;
        self.by_path(&path).ok_or_else(|| missing(path))
    }

    /// Returns the node at a path that begins with `/` or with an alias.
    fn by_path(&self, path: &str) -> Option<NodeId> {
        if path.starts_with('/') {
            return self.base.find(path);
        }
        let (alias, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        let aliases = self.base.find("/aliases")?;
        let start = read(self.base.property(aliases, alias)?, text).ok()?;
        self.base.find(&(start + rest))
    }

    /// Returns the node of the base that has the label.
    fn labelled(&self, label: &str) -> Result<NodeId, OverlayError> {
        if self.symbols.is_empty() {
            return Err(OverlayError::NoSymbols(label.to_owned()));
        }
        self.symbols.get(label).copied().ok_or_else(|| OverlayError::NoSymbol(label.to_owned()))
    }

    /// Records which nodes of the base correspond to a body's nodes. Makes the missing ones.
    fn pair(&mut self, body: NodeId, target: NodeId) -> Result<(), OverlayError> {
        let mut ahead = vec![(body, target)];
        while let Some((from, to)) = ahead.pop() {
            if let (Some(own), Some(kept)) = (self.overlay.phandle(from), self.base.phandle(to)) {
                self.phandles.insert(own, kept);
            }
            self.pairs.push((from, to));
            for child in self.overlay.children(from) {
                ahead.push((child, self.base.child(to, self.overlay.name(child), None)?));
            }
        }
        Ok(())
    }

    /// Copies a node's properties, with references converted to those of the base.
    fn copy(&mut self, from: NodeId, to: NodeId) -> Result<(), OverlayError> {
        let keeps_phandle = self.base.phandle(to).is_some();
        for (name, property) in self.overlay.properties(from) {
            let value = match &property.value {
                Value::Bytes(_) if PHANDLES.contains(&name) && keeps_phandle => continue,
                Value::Bytes(bytes) => Value::Bytes(self.fixed(from, name, bytes)?),
                Value::Unusable(reason) => Value::Unusable(reason.clone()),
            };
            self.base.set(to, name, Property { value, position: None })?;
        }
        Ok(())
    }

    /// Returns a property's bytes with its references replaced.
    fn fixed(&mut self, node: NodeId, name: &str, bytes: &[u8]) -> Result<Vec<u8>, OverlayError> {
        let mut bytes = bytes.to_vec();
        if PHANDLES.contains(&name)
            && let Ok(own) = cell(&bytes)
        {
            return Ok(self.renumbered(own)?.to_be_bytes().to_vec());
        }
        for (at, fix) in self.links.take(node, name) {
            let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else {
                let entry = format!("{}:{name}:{at}", self.overlay.path(node));
                return Err(OverlayError::Fixup { list: FIXUPS, entry });
            };
            let number = match fix {
                Fix::Label(label) => {
                    let target = self.labelled(&label)?;
                    self.phandle(target)?
                }
                Fix::Local => self.renumbered(u32::from_be_bytes(*place))?,
            };
            *place = number.to_be_bytes();
        }
        Ok(bytes)
    }

    /// Returns the phandle in the base for a phandle of the overlay.
    fn renumbered(&self, own: u32) -> Result<u32, OverlayError> {
        match self.phandles.get(&own) {
            Some(kept) => Ok(*kept),
            None => own.checked_add(self.added).filter(is_phandle).ok_or(OverlayError::Phandles),
        }
    }

    /// Returns the phandle of a node of the base. Assigns a new one if it has none.
    fn phandle(&mut self, node: NodeId) -> Result<u32, OverlayError> {
        if let Some(phandle) = self.base.phandle(node) {
            return Ok(phandle);
        }
        self.next = self.next.checked_add(1).filter(is_phandle).ok_or(OverlayError::Phandles)?;
        let value = Value::Bytes(self.next.to_be_bytes().to_vec());
        self.base.set(node, "phandle", Property { value, position: None })?;
        Ok(self.next)
    }

    /// Adds the labels of a node of the overlay to those of the base, for later overlays.
    fn export(&mut self, from: NodeId, to: NodeId) -> Result<(), OverlayError> {
        let Some(labels) = self.links.labels.remove(&from) else { return Ok(()) };
        let symbols = self.base.child_named(self.base.root(), SYMBOLS);
        for label in labels {
            if let Some(symbols) = symbols {
                let value = Value::Bytes([self.base.path(to).as_bytes(), &[0]].concat());
                self.base.set(symbols, &label, Property { value, position: None })?;
            }
            self.base.labels.insert(label, to);
        }
        Ok(())
    }
}
