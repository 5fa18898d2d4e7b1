// SPDX-License-Identifier: Apache-2.0
//! Resolves references to phandles and paths, once all labels are known.

use std::collections::BTreeSet;

use super::Source;
use super::lexical::Reference;
use super::value::Piece;
use crate::config::diagnostic::Severity;
use crate::config::overlay::Fix;
use crate::config::steps;
use crate::config::tree::{NodeId, Property, Unusable, Value};

/// Most characters of a reference or macro in a message.
const MAX_SHOWN: usize = 128;

impl<'t> Source<'t, '_> {
    /// Computes the bytes of every value with references.
    pub(super) fn resolve(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut next = self.tree.walk().iter().filter_map(|node| self.tree.phandle(*node)).max().unwrap_or(0);
        let mut reported = BTreeSet::new();
        for ((node, name), pieces) in waiting {
            if !self.tree.is_attached(node) {
                continue;
            }
            let value = match self.bytes((node, name), &pieces, &mut next) {
                Ok(bytes) => Value::Bytes(bytes),
                Err(reason) => {
                    let position = self.tree.property(node, name).and_then(|property| property.position);
                    if reported.insert(reason.clone()) {
                        let message = format!("{name} {reason}");
                        self.report.add(Severity::Warning, self.tree.path(node), position, message);
                    }
                    Value::Unusable(reason)
                }
            };
            if let Some(property) = self.tree.property_mut(node, name) {
                property.value = value;
            }
        }
    }

    /// Returns the bytes of a value. In an overlay, records the offsets of its references.
    fn bytes(
        &mut self,
        place: (NodeId, &str),
        pieces: &[Piece<'t>],
        next: &mut u32,
    ) -> Result<Vec<u8>, Unusable> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(more) => bytes.extend_from_slice(more),
                Piece::Macro(name) => return Err(Unusable::Macro(shown(name))),
                Piece::Incbin => return Err(Unusable::Incbin),
                Piece::Phandle(reference) => {
                    let (number, fix) = match (self.target(reference), reference) {
                        (Some(node), _) => (self.phandle(node, next)?, Fix::Local),
                        (None, Reference::Label(label)) if self.fragments.is_some() => {
                            (u32::MAX, Fix::Label((*label).to_owned()))
                        }
                        (None, _) => return Err(undefined(reference)),
                    };
                    if self.fragments.is_some() {
                        self.tree.references.push((place.0, place.1.to_owned(), bytes.len(), fix));
                    }
                    bytes.extend_from_slice(&number.to_be_bytes());
                }
                Piece::Path(reference) => {
                    let node = self.target(reference).ok_or_else(|| undefined(reference))?;
                    let path = self.tree.path(node);
                    steps::take(path.len());
                    self.path_room = self.path_room.checked_sub(path.len()).ok_or(Unusable::Paths)?;
                    bytes.extend_from_slice(path.as_bytes());
                    bytes.push(0);
                }
            }
        }
        Ok(bytes)
    }

    /// Returns the node's phandle. Assigns a new one if it has none.
    fn phandle(&mut self, node: NodeId, next: &mut u32) -> Result<u32, Unusable> {
        if let Some(phandle) = self.tree.phandle(node) {
            return Ok(phandle);
        }
        // The two highest numbers are no valid phandles.
        *next = next.checked_add(1).filter(|n| *n < u32::MAX - 1).ok_or(Unusable::NoPhandle)?;
        let value = Value::Bytes(next.to_be_bytes().to_vec());
        let set = self.tree.set(node, "phandle", Property { value, position: None });
        set.map_err(Unusable::NoRoom)?;
        Ok(*next)
    }
}

fn undefined(reference: &Reference<'_>) -> Unusable {
    Unusable::Undefined(shown(&reference.to_string()))
}

/// Returns the beginning of a word, short enough for a message: every reader of the value repeats
/// it.
fn shown(word: &str) -> String {
    word.chars().take(MAX_SHOWN).collect()
}
