// SPDX-License-Identifier: Apache-2.0
//! One device tree, from any of the readers.
//!
//! Children and properties are kept by name, not in file order: `/proc/device-tree` has no order,
//! and the same tree must give the same heaps from text, blob and directory. Nodes live in an
//! arena, so that dropping a tree does not recurse.

use std::collections::{BTreeMap, HashMap};

use super::diagnostic::Position;
use super::overlay::Fix;
use super::steps;

/// Most bytes of a source of any form.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Most nested nodes; boards have fewer than ten.
pub(super) const MAX_DEPTH: usize = 64;
/// Most bytes in the path of a node, which messages and references repeat; paths of boards have
/// fewer than 200.
pub(super) const MAX_PATH: usize = 4096;
/// Most nodes and properties together; large boards have about 60,000.
pub(super) const MAX_ITEMS: usize = 1 << 18;

/// A node of one [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(usize);

/// A source is larger than any real device tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TreeLimit {
    /// Nested nodes.
    #[error("nodes are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// Nodes and properties.
    #[error("there are more than {MAX_ITEMS} nodes and properties")]
    Items,
    /// The names of a node and of all its ancestors.
    #[error("the path of a node has more than {MAX_PATH} bytes")]
    Path,
}

/// A property's bytes, or the reason why they are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// As in a blob: big-endian cells, NUL-terminated strings.
    Bytes(Vec<u8>),
    /// The reason why they are unknown.
    Unusable(Unusable),
}

/// Reason why a property's bytes are unknown; worded to follow the property's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[cfg_attr(not(feature = "dts"), expect(dead_code, reason = "most of these are said of text alone"))]
pub(super) enum Unusable {
    /// The kernel hides the property from this user.
    #[error("cannot be read: permission denied")]
    NotPermitted,
    /// One body of the node has it twice.
    #[error("is given twice in this node")]
    Twice,
    /// A macro's value is unknown.
    #[error("has the macro {0}: run the file through the C preprocessor (cpp) first")]
    Macro(String),
    /// `/incbin/` is not read.
    #[error("is the content of another file: compile the tree with dtc")]
    Incbin,
    /// A reference, as written, to a node of another file.
    #[error("refers to {0}, which this file does not define: {ADD_THE_BASE}")]
    Undefined(String),
    /// Paths are longer in total than those of any real tree.
    #[error("refers to paths of more than {MAX_BYTES} bytes in all")]
    Paths,
    /// Every phandle is in use.
    #[error("needs a phandle, but none is left")]
    NoPhandle,
    /// The node that it refers to has no room for a phandle.
    #[error("needs a phandle, but {0}")]
    NoRoom(TreeLimit),
}

/// Definitions of another tree that a text refers to.
pub(super) const ADD_THE_BASE: &str =
    "add the file that defines it, or compile the whole tree with dtc and give the .dtb";

/// Returns one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) value: Value,
    pub(super) position: Option<Position>,
}

/// One node; its properties are reached through the tree.
#[derive(Debug)]
struct Node {
    name: String,
    parent: Option<NodeId>,
    depth: usize,
    /// Bytes of its path.
    path_len: usize,
    position: Option<Position>,
    children: BTreeMap<String, NodeId>,
    properties: BTreeMap<String, Property>,
}

impl Node {
    /// Returns a node without a parent.
    fn top() -> Self {
        Self {
            name: String::new(),
            parent: None,
            depth: 0,
            path_len: 0,
            position: None,
            children: BTreeMap::new(),
            properties: BTreeMap::new(),
        }
    }
}

/// A device tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    items: usize,
    phandles: HashMap<u32, NodeId>,
    /// Labels of a text. Blobs have theirs in `/__symbols__`.
    pub(super) labels: BTreeMap<String, NodeId>,
    /// References of a text that is an overlay: node, property, offset, and the value of the cell
    /// there. Blobs have theirs in `/__fixups__` and `/__local_fixups__`.
    pub(super) references: Vec<(NodeId, String, usize, Fix)>,
}

impl Tree {
    /// Returns a tree with an empty root.
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::top()],
            items: 1,
            phandles: HashMap::new(),
            labels: BTreeMap::new(),
            references: Vec::new(),
        }
    }

    /// Returns the node `/`.
    pub(super) fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Makes a node outside the tree, for parts that are read and dropped.
    ///
    /// # Errors
    /// If the tree would exceed its limits.
    #[cfg(feature = "dts")]
    pub(super) fn detached(&mut self) -> Result<NodeId, TreeLimit> {
        self.push(Node::top())
    }

    fn push(&mut self, node: Node) -> Result<NodeId, TreeLimit> {
        self.room()?;
        self.nodes.push(node);
        self.items += 1;
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Returns the child with that name. Makes it if it is missing.
    ///
    /// # Errors
    /// If the tree would exceed its limits.
    pub(super) fn child(
        &mut self,
        parent: NodeId,
        name: &str,
        position: Option<Position>,
    ) -> Result<NodeId, TreeLimit> {
        if let Some(child) = self.nodes[parent.0].children.get(name) {
            return Ok(*child);
        }
        steps::take(name.len());
        let Node { depth, path_len, .. } = self.nodes[parent.0];
        let (depth, path_len) = (depth + 1, path_len + 1 + name.len());
        if depth > MAX_DEPTH {
            return Err(TreeLimit::Depth);
        }
        if path_len > MAX_PATH {
            return Err(TreeLimit::Path);
        }
        let name = name.to_owned();
        let child = self.push(Node {
            name: name.clone(),
            parent: Some(parent),
            depth,
            path_len,
            position,
            ..Node::top()
        })?;
        self.nodes[parent.0].children.insert(name, child);
        Ok(child)
    }

    /// Sets or replaces a property.
    ///
    /// # Errors
    /// If the tree would exceed its limits.
    pub(super) fn set(&mut self, node: NodeId, name: &str, property: Property) -> Result<(), TreeLimit> {
        self.room()?;
        self.items += 1;
        steps::take(name.len());
        self.nodes[node.0].properties.insert(name.to_owned(), property);
        Ok(())
    }

    fn room(&self) -> Result<(), TreeLimit> {
        if self.items < MAX_ITEMS { Ok(()) } else { Err(TreeLimit::Items) }
    }

    /// Detaches a child with everything below it. Returns whether it existed.
    #[cfg(feature = "dts")]
    pub(super) fn remove_child(&mut self, parent: NodeId, name: &str) -> bool {
        let removed = self.nodes[parent.0].children.remove(name);
        if let Some(child) = removed {
            self.nodes[child.0].parent = None;
        }
        removed.is_some()
    }

    /// Removes a property. Returns whether it existed.
    #[cfg(feature = "dts")]
    pub(super) fn remove_property(&mut self, node: NodeId, name: &str) -> bool {
        self.nodes[node.0].properties.remove(name).is_some()
    }

    /// Builds the index of phandles. Readers call it when the tree is complete. If two nodes have
    /// the same phandle, the first in the order of the walk gets it.
    pub(super) fn index_phandles(&mut self) {
        self.phandles = HashMap::new();
        for node in self.walk() {
            if let Some(phandle) = self.phandle(node) {
                self.phandles.entry(phandle).or_insert(node);
            }
        }
    }

    /// Returns the node's own phandle.
    pub(super) fn phandle(&self, node: NodeId) -> Option<u32> {
        ["phandle", "linux,phandle"].iter().find_map(|name| match &self.property(node, name)?.value {
            Value::Bytes(bytes) => bytes.as_slice().try_into().ok().map(u32::from_be_bytes),
            Value::Unusable(_) => None,
        })
    }

    /// Returns the node with this phandle.
    pub(super) fn by_phandle(&self, phandle: u32) -> Option<NodeId> {
        self.phandles.get(&phandle).copied()
    }

    /// Returns the node at an absolute path. As in Linux, unit addresses may be omitted if the name
    /// is unambiguous.
    pub(super) fn find(&self, path: &str) -> Option<NodeId> {
        let steps = path.strip_prefix('/')?.split('/').filter(|step| !step.is_empty());
        let mut node = self.root();
        for step in steps {
            steps::take(step.len());
            let children = &self.nodes[node.0].children;
            node = *children.get(step).or_else(|| {
                // In this order all names that differ from it by a unit address are adjacent.
                let with_unit = format!("{step}@");
                let (name, child) = children.range(with_unit.clone()..).next()?;
                (!step.contains('@') && name.starts_with(&with_unit)).then_some(child)
            })?;
        }
        Some(node)
    }

    /// Returns the child of exactly this name.
    pub(super) fn child_named(&self, node: NodeId, name: &str) -> Option<NodeId> {
        self.nodes[node.0].children.get(name).copied()
    }

    /// Returns every node below and including the root, parents before children, siblings by name.
    pub(super) fn walk(&self) -> Vec<NodeId> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut ahead = vec![self.root()];
        while let Some(node) = ahead.pop() {
            order.push(node);
            steps::take(1);
            ahead.extend(self.nodes[node.0].children.values().rev());
        }
        order
    }

    /// Returns the node's children by name.
    pub(super) fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[node.0].children.values().copied().inspect(|_| steps::take(1))
    }

    /// Returns the node's properties by name.
    pub(super) fn properties(&self, node: NodeId) -> impl Iterator<Item = (&str, &Property)> {
        let all = self.nodes[node.0].properties.iter().inspect(|_| steps::take(1));
        all.map(|(name, property)| (name.as_str(), property))
    }

    /// Returns one property.
    pub(super) fn property(&self, node: NodeId, name: &str) -> Option<&Property> {
        steps::take(1);
        self.nodes[node.0].properties.get(name)
    }

    /// Returns one property, with its value mutable.
    #[cfg(feature = "dts")]
    pub(super) fn property_mut(&mut self, node: NodeId, name: &str) -> Option<&mut Property> {
        self.nodes[node.0].properties.get_mut(name)
    }

    /// Returns its parent; `None` for the root and for a detached node.
    pub(super) fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.nodes[node.0].parent
    }

    /// Returns whether it is still part of the tree.
    #[cfg(feature = "dts")]
    pub(super) fn is_attached(&self, node: NodeId) -> bool {
        let mut top = node;
        while let Some(parent) = self.parent(top) {
            top = parent;
        }
        top == self.root()
    }

    /// Returns the name with unit address.
    pub(super) fn name(&self, node: NodeId) -> &str {
        &self.nodes[node.0].name
    }

    /// Returns the name without unit address.
    pub(super) fn base_name(&self, node: NodeId) -> &str {
        without_unit(self.name(node))
    }

    /// Returns its position in the text.
    pub(super) fn position(&self, node: NodeId) -> Option<Position> {
        self.nodes[node.0].position
    }

    /// Returns the absolute path.
    pub(super) fn path(&self, node: NodeId) -> String {
        steps::take(1);
        let mut names = Vec::new();
        let mut here = node;
        while let Some(parent) = self.parent(here) {
            names.push(self.name(here));
            here = parent;
        }
        if names.is_empty() {
            return "/".to_owned();
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }
}

fn without_unit(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phandle(number: u32) -> Property {
        Property { value: Value::Bytes(number.to_be_bytes().to_vec()), position: None }
    }

    #[test]
    fn paths_and_lookups_agree() {
        let mut tree = Tree::new();
        let soc = tree.child(tree.root(), "soc", None).expect("room");
        let pool = tree.child(soc, "pool@1000", None).expect("room");
        tree.set(pool, "phandle", phandle(7)).expect("room");
        tree.index_phandles();
        assert_eq!(tree.path(pool), "/soc/pool@1000");
        assert_eq!(tree.path(tree.root()), "/");
        assert_eq!(tree.find("/soc/pool@1000"), Some(pool));
        assert_eq!(tree.find("/soc/pool"), Some(pool));
        assert_eq!(tree.find("soc"), None);
        assert_eq!(tree.find("/soc/pool@"), None);
        assert_eq!(tree.find("/soc/poo"), None);
        assert_eq!(tree.by_phandle(7), Some(pool));
    }

    #[cfg(feature = "dts")]
    #[test]
    fn a_removed_node_cannot_be_found_by_path_or_phandle() {
        let mut tree = Tree::new();
        let pool = tree.child(tree.root(), "pool", None).expect("room");
        tree.set(pool, "phandle", phandle(7)).expect("room");
        assert!(tree.remove_child(tree.root(), "pool"));
        assert!(!tree.is_attached(pool));
        tree.index_phandles();
        assert_eq!((tree.by_phandle(7), tree.find("/pool")), (None, None));
    }

    #[test]
    fn depth_length_and_number_are_bounded() {
        let mut tree = Tree::new();
        let mut node = tree.root();
        for _ in 0..MAX_DEPTH {
            node = tree.child(node, "n", None).expect("within the limit");
        }
        assert_eq!(tree.child(node, "n", None), Err(TreeLimit::Depth));
        let long = tree.child(tree.root(), &"n".repeat(MAX_PATH - 1), None).expect("within the limit");
        assert_eq!(tree.child(long, "n", None), Err(TreeLimit::Path));
        let mut tree = Tree::new();
        let root = tree.root();
        let error = (0..MAX_ITEMS).find_map(|n| tree.set(root, &n.to_string(), phandle(0)).err());
        assert_eq!(error, Some(TreeLimit::Items));
    }
}
