// SPDX-License-Identifier: Apache-2.0
//! Reads the references of an overlay and the labels of its nodes, from the lists that `dtc -@`
//! writes into blobs, or from the reader of text.

use std::collections::HashMap;

use super::{FIXUPS, LOCAL_FIXUPS, OverlayError, SYMBOLS};
use crate::config::property::{cells, read, text, texts};
use crate::config::tree::{NodeId, Tree};

/// Value that a cell of an overlay must get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Fix {
    /// The phandle of the node of the other tree with this label.
    Label(String),
    /// A phandle of the overlay itself.
    Local,
}

/// References of one property: the offset at which a cell begins, with its future value.
type Cells = Vec<(usize, Fix)>;

/// All references and labels of an overlay.
pub(super) struct Links {
    cells: HashMap<NodeId, HashMap<String, Cells>>,
    /// Labels by node.
    pub(super) labels: HashMap<NodeId, Vec<String>>,
}

impl Links {
    /// Reads the references and labels of an overlay.
    ///
    /// # Errors
    /// If one of its lists names a node or property that the overlay does not have.
    pub(super) fn of(overlay: &Tree) -> Result<Self, OverlayError> {
        let mut links = Self { cells: HashMap::new(), labels: HashMap::new() };
        for (label, node) in symbols(overlay) {
            links.labels.entry(node).or_default().push(label);
        }
        for (node, property, at, fix) in &overlay.references {
            links.add(*node, property, *at, fix.clone());
        }
        let list = |name| overlay.child_named(overlay.root(), name);
        if let Some(fixups) = list(FIXUPS) {
            links.read_fixups(overlay, fixups)?;
        }
        if let Some(fixups) = list(LOCAL_FIXUPS) {
            links.read_local(overlay, fixups)?;
        }
        Ok(links)
    }

    fn add(&mut self, node: NodeId, property: &str, at: usize, fix: Fix) {
        self.cells.entry(node).or_default().entry(property.to_owned()).or_default().push((at, fix));
    }

    /// Returns the first reference of a property.
    pub(super) fn at(&self, node: NodeId, property: &str) -> Option<&(usize, Fix)> {
        self.cells.get(&node)?.get(property)?.first()
    }

    /// Removes and returns the references of a property.
    pub(super) fn take(&mut self, node: NodeId, property: &str) -> Cells {
        self.cells.get_mut(&node).and_then(|properties| properties.remove(property)).unwrap_or_default()
    }

    /// Reads `__fixups__`: for each label, `path:property:byte` for each reference.
    fn read_fixups(&mut self, overlay: &Tree, list: NodeId) -> Result<(), OverlayError> {
        for (label, property) in overlay.properties(list) {
            let wrong = |entry: String| OverlayError::Fixup { list: FIXUPS, entry };
            let entries =
                read(property, texts).map_err(|reason| wrong(format!("{label}, which {reason}")))?;
            for entry in entries {
                let place = || {
                    let (path, rest) = entry.split_once(':')?;
                    let (name, at) = rest.rsplit_once(':')?;
                    Some((overlay.find(path)?, name, at.parse().ok()?))
                };
                let Some((node, name, at)) = place() else { return Err(wrong(entry)) };
                self.add(node, name, at, Fix::Label(label.to_owned()));
            }
        }
        Ok(())
    }

    /// Reads `__local_fixups__`: the overlay's own nodes, with the offsets at which references
    /// begin.
    fn read_local(&mut self, overlay: &Tree, list: NodeId) -> Result<(), OverlayError> {
        let mut ahead = vec![(list, overlay.root())];
        while let Some((listed, node)) = ahead.pop() {
            let wrong = |what: &str| OverlayError::Fixup {
                list: LOCAL_FIXUPS,
                entry: format!("{}/{what}", overlay.path(listed)),
            };
            for (name, property) in overlay.properties(listed) {
                for at in read(property, cells).map_err(|_| wrong(name))? {
                    self.add(node, name, at as usize, Fix::Local);
                }
            }
            for child in overlay.children(listed) {
                let name = overlay.name(child);
                ahead.push((child, overlay.child_named(node, name).ok_or_else(|| wrong(name))?));
            }
        }
        Ok(())
    }
}

/// Returns the labelled nodes of a tree: those of a text, and those in `__symbols__`.
pub(super) fn symbols(tree: &Tree) -> HashMap<String, NodeId> {
    let mut symbols: HashMap<String, NodeId> = HashMap::new();
    if let Some(list) = tree.child_named(tree.root(), SYMBOLS) {
        let node = |property| tree.find(&read(property, text).ok()?);
        symbols.extend(
            tree.properties(list).filter_map(|(label, property)| Some((label.to_owned(), node(property)?))),
        );
    }
    symbols.extend(tree.labels.iter().map(|(label, node)| (label.clone(), *node)));
    symbols
}
