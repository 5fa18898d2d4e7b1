// SPDX-License-Identifier: Apache-2.0
//! Reads a node's properties with types. Wrong shapes are recorded, not fatal.

use super::diagnostic::{Position, Report, Severity};
use super::steps;
use super::tree::{NodeId, Property, Tree, Unusable, Value};

/// Properties that every node may have and that do not describe a heap.
pub(super) const UNIVERSAL: &[&str] = &[
    "compatible",
    "status",
    "phandle",
    "linux,phandle",
    "name",
    "label",
    "#address-cells",
    "#size-cells",
    "ranges",
];

/// Reads bytes as a value.
pub(super) type Shape<T> = fn(&[u8]) -> Result<T, ShapeError>;

/// Reason why a property does not have the required shape; worded to follow the property's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShapeError {
    /// A switch has a value.
    #[error("is a flag without a value: its presence turns it on")]
    Switch,
    /// Not text that ends with NUL, or text with control characters.
    #[error("must be a string in double quotes")]
    Text,
    /// This number of strings, where one is required.
    #[error("must be one string, but it has {0}")]
    OneText(usize),
    /// This number of bytes, where one cell is required.
    #[error("must be one 32-bit cell, but it has {0} bytes")]
    OneCell(usize),
    /// This number of bytes, which is no multiple of a cell.
    #[error("must be 32-bit cells, but it has {0} bytes")]
    Cells(usize),
    /// A reference is empty.
    #[error("must be a reference such as <&region>, but it is empty")]
    NoReference,
    /// This number of cells, where a number is required.
    #[error("must be a number of one or two cells, but it has {0}")]
    Number(usize),
    /// Its bytes are unknown.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// A finding about one node, kept until the node is finished.
#[derive(Debug)]
pub(super) struct Finding {
    severity: Severity,
    position: Option<Position>,
    message: String,
}

/// A node that is being read.
#[derive(Debug)]
pub(super) struct NodeReader<'t> {
    pub(super) tree: &'t Tree,
    pub(super) node: NodeId,
    findings: Vec<Finding>,
}

impl<'t> NodeReader<'t> {
    pub(super) fn new(tree: &'t Tree, node: NodeId) -> Self {
        Self { tree, node, findings: Vec::new() }
    }

    /// Returns whether the node has the property, with any value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.tree.property(self.node, key).is_some()
    }

    /// Returns the property in the required shape; `None` if it is missing or wrong. Records a
    /// wrong one.
    pub(super) fn get<T>(&mut self, key: &str, shape: Shape<T>) -> Option<T> {
        match read(self.tree.property(self.node, key)?, shape) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.fail(key, format!("{key} {reason}"));
                None
            }
        }
    }

    /// Reads a switch: returns whether the property is present. Records an error if it has a value.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.get(key, flag).is_some()
    }

    /// Returns the node with the property's phandle. Records a missing one.
    pub(super) fn target(&mut self, key: &str) -> Option<NodeId> {
        let phandle = self.get(key, first_cell)?;
        let target = self.tree.by_phandle(phandle);
        if target.is_none() {
            self.fail(key, format!("{key} is phandle {phandle:#x}, but no node has it"));
        }
        target
    }

    /// Records an error at `key`, or at the node if it has no such property.
    pub(super) fn fail(&mut self, key: &str, message: impl Into<String>) {
        self.record(Severity::Error, key, message.into());
    }

    /// Records a warning at `key`.
    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.record(Severity::Warning, key, message.into());
    }

    fn record(&mut self, severity: Severity, key: &str, message: String) {
        let property = self.tree.property(self.node, key);
        let position = property.map_or_else(|| self.tree.position(self.node), |property| property.position);
        self.findings.push(Finding { severity, position, message });
    }

    /// Returns the keys that are neither in `known` nor [`UNIVERSAL`].
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<&'t str> {
        let keys = self.tree.properties(self.node).map(|(key, _)| key);
        keys.inspect(|_| steps::take(known.len()))
            .filter(|key| !known.contains(key) && !UNIVERSAL.contains(key))
            .collect()
    }

    /// Reports all findings. Returns whether the node had no error.
    pub(super) fn finish(self, report: &mut Report) -> bool {
        if self.findings.is_empty() {
            return true;
        }
        let path = self.tree.path(self.node);
        let good = self.findings.iter().all(|finding| finding.severity != Severity::Error);
        for Finding { severity, position, message } in self.findings {
            report.add(severity, path.as_str(), position, message);
        }
        good
    }
}

/// Reads the property in the required shape.
///
/// # Errors
/// If it has another shape, or its bytes are unknown.
pub(super) fn read<T>(property: &Property, shape: Shape<T>) -> Result<T, ShapeError> {
    match &property.value {
        Value::Bytes(bytes) => {
            steps::take(1);
            shape(bytes)
        }
        Value::Unusable(reason) => Err(reason.clone().into()),
    }
}

/// Most bytes of a `status`, and of all `compatible` strings of a node together, since they are
/// read many times. Those of boards have fewer than 20 and 200.
const MAX_STATUS: usize = 64;
const MAX_COMPATIBLE: usize = 4096;

/// Returns the reason why a node is disabled, from its `status`; `None` if it is enabled.
pub(super) fn switched_off(tree: &Tree, node: NodeId) -> Option<String> {
    let property = tree.property(node, "status")?;
    if let Value::Bytes(bytes) = &property.value
        && bytes.len() > MAX_STATUS
    {
        return Some(format!("status has {} bytes, but at most {MAX_STATUS}", bytes.len()));
    }
    match read(property, text) {
        Ok(status) if ["okay", "ok"].contains(&status.as_str()) => None,
        Ok(status) => Some(format!("status is {status:?}")),
        Err(reason) => Some(format!("status {reason}")),
    }
}

/// Returns the node's `compatible` strings; empty if it has none, or they are malformed or longer
/// than those of any board.
pub(super) fn compatibles(tree: &Tree, node: NodeId) -> Vec<String> {
    let short = |property: &&Property| match &property.value {
        Value::Bytes(bytes) => bytes.len() <= MAX_COMPATIBLE,
        Value::Unusable(_) => true,
    };
    let property = tree.property(node, "compatible").filter(short);
    property.and_then(|property| read(property, texts).ok()).unwrap_or_default()
}

/// Returns whether one of the node's `compatible` strings is `wanted`.
pub(super) fn is_compatible(tree: &Tree, node: NodeId, wanted: &str) -> bool {
    compatibles(tree, node).iter().any(|compatible| compatible == wanted)
}

/// Reads an empty value.
pub(super) fn flag(bytes: &[u8]) -> Result<(), ShapeError> {
    if bytes.is_empty() { Ok(()) } else { Err(ShapeError::Switch) }
}

/// Reads one string.
pub(super) fn text(bytes: &[u8]) -> Result<String, ShapeError> {
    match texts(bytes)?.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(ShapeError::OneText(several.len())),
    }
}

/// Reads one or more strings.
pub(super) fn texts(bytes: &[u8]) -> Result<Vec<String>, ShapeError> {
    steps::take(bytes.len());
    let body = bytes.strip_suffix(&[0]).filter(|body| !body.is_empty()).ok_or(ShapeError::Text)?;
    let text = str::from_utf8(body).ok().filter(|text| !text.chars().any(|c| c.is_control() && c != '\0'));
    Ok(text.ok_or(ShapeError::Text)?.split('\0').map(ToOwned::to_owned).collect())
}

/// Reads one 32-bit cell.
pub(super) fn cell(bytes: &[u8]) -> Result<u32, ShapeError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| ShapeError::OneCell(bytes.len()))
}

/// Reads the first of one or more cells, as in a phandle with arguments.
pub(super) fn first_cell(bytes: &[u8]) -> Result<u32, ShapeError> {
    cells(bytes)?.first().copied().ok_or(ShapeError::NoReference)
}

/// Reads any number of 32-bit cells.
pub(super) fn cells(bytes: &[u8]) -> Result<Vec<u32>, ShapeError> {
    steps::take(bytes.len());
    let (cells, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(ShapeError::Cells(bytes.len()));
    }
    Ok(cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
}

/// The beginning of a list of cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The total number.
    pub(super) count: usize,
    /// Up to eight of them.
    pub(super) first: Vec<u32>,
}

/// Reads the first cells of a list and its length, in the same time for every length.
pub(super) fn head(bytes: &[u8]) -> Result<Head, ShapeError> {
    let (cells, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(ShapeError::Cells(bytes.len()));
    }
    let first = cells.iter().take(8).map(|cell| u32::from_be_bytes(*cell)).collect();
    Ok(Head { count: cells.len(), first })
}

/// Reads a number of one or two cells, high cell first.
pub(super) fn number(bytes: &[u8]) -> Result<u64, ShapeError> {
    match cells(bytes)?.as_slice() {
        [low] => Ok(u64::from(*low)),
        [high, low] => Ok(u64::from(*high) << 32 | u64::from(*low)),
        other => Err(ShapeError::Number(other.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_take_what_they_should() {
        assert_eq!(flag(&[]), Ok(()));
        assert_eq!(text(b"a b\0"), Ok("a b".to_owned()));
        assert_eq!(texts(b"a\0b\0"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(cell(&[0, 0, 1, 2]), Ok(258));
        assert_eq!(number(&[0, 0, 1, 2]), Ok(258));
        assert_eq!(number(&[0, 0, 0, 1, 0, 0, 0, 2]), Ok((1 << 32) + 2));
        assert_eq!(cells(&[]), Ok(vec![]));
    }

    #[test]
    fn shapes_refuse_the_rest_and_say_what_they_want() {
        assert_eq!(flag(b"true\0"), Err(ShapeError::Switch));
        for bad in [&b""[..], b"\0", b"no end", b"bell\x07\0", b"\xff\0"] {
            assert_eq!(texts(bad), Err(ShapeError::Text), "{bad:?}");
        }
        assert_eq!(text(b"a\0b\0"), Err(ShapeError::OneText(2)));
        assert_eq!(cell(&[1]), Err(ShapeError::OneCell(1)));
        assert_eq!(cells(&[1; 5]), Err(ShapeError::Cells(5)));
        assert_eq!(number(&[0; 12]), Err(ShapeError::Number(3)));
        assert_eq!(first_cell(&[]), Err(ShapeError::NoReference));
        let wanted = ShapeError::Number(3).to_string();
        assert_eq!(wanted, "must be a number of one or two cells, but it has 3");
    }
}
