// SPDX-License-Identifier: Apache-2.0
//! Translates a tree to a configuration: Anion's own node if there is one, else the vendors'
//! descriptions.

use super::accounts::Accounts;
use super::diagnostic::{Report, Severity};
use super::draft;
use super::heaps::{self, CLIENTS, COMPATIBLE, GRAPHICS};
use super::property::{is_compatible, switched_off};
use super::spec::{Config, Policy};
use super::tree::{NodeId, Tree};
use super::{graphics, import, overlay, policy};
use crate::units::PageSize;

/// Returns the heaps, the policy and the graphics rules of `tree`.
pub(super) fn config(tree: &Tree, page: PageSize, accounts: &Accounts<'_>, report: &mut Report) -> Config {
    let own = own_node(tree, report);
    let (drafts, nothing) = match own {
        Some(own) => {
            note_vendor_nodes(tree, own, report);
            (heaps::read(tree, own, page, accounts, report), NONE_LEFT.to_owned())
        }
        None => {
            let imported = import::read(tree, page, report);
            let nothing =
                if imported.described > 0 { NONE_LEFT.to_owned() } else { no_heap(&imported.containers) };
            (imported.drafts, nothing)
        }
    };
    let heaps = draft::number(drafts, tree, report);
    if overlay::is_overlay(tree) {
        report.add(Severity::Error, "/", None, ALONE);
    } else if heaps.is_empty() {
        let node = own.map_or_else(|| "/".to_owned(), |own| tree.path(own));
        report.add(Severity::Error, node, own.and_then(|own| tree.position(own)), nothing);
    }
    let clients = own.and_then(|own| tree.children(own).find(|child| tree.name(*child) == CLIENTS));
    let policy = clients
        .map_or_else(Policy::default, |clients| policy::read(tree, clients, &heaps, page, accounts, report));
    let graphics = own.and_then(|own| tree.children(own).find(|child| tree.name(*child) == GRAPHICS));
    let graphics = match graphics {
        Some(node) => graphics::read(tree, node, &heaps, report),
        None => graphics::default_rules(&heaps),
    };
    Config { heaps, policy, graphics }
}

/// The message for a tree whose heaps all have errors.
const NONE_LEFT: &str = "no heap is left";
/// The message for an overlay without a base.
const ALONE: &str = "this is an overlay, which changes another device tree: give that one before it";
/// Most containers that a message names.
const MAX_NAMED: usize = 8;

/// Returns the message for a tree without heaps; `containers` are those that it has nevertheless.
fn no_heap(containers: &[String]) -> String {
    if containers.is_empty() {
        return format!("no heap: nothing here is compatible with {COMPATIBLE:?} or a known vendor binding");
    }
    let named = containers.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = containers.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("no heap: there are heap containers, but no heap could be read from them: {named}{more}")
}

/// Returns the node that applies: the first enabled one, in the order of the text.
fn own_node(tree: &Tree, report: &mut Report) -> Option<NodeId> {
    let mut own: Vec<NodeId> =
        tree.walk().into_iter().filter(|node| is_compatible(tree, *node, COMPATIBLE)).collect();
    own.sort_by_key(|node| tree.position(*node));
    let mut first = None;
    for node in own {
        let position = tree.position(node);
        if let Some(why) = switched_off(tree, node) {
            report.add(Severity::Note, tree.path(node), position, format!("{why}, so the node is left out"));
        } else if let Some(first) = first {
            let first = tree.path(first);
            let message =
                format!("only one node can be {COMPATIBLE:?}, and {first} is: this one is left out");
            report.add(Severity::Error, tree.path(node), position, message);
        } else {
            first = Some(node);
        }
    }
    first
}

fn note_vendor_nodes(tree: &Tree, own: NodeId, report: &mut Report) {
    for node in import::readable(tree) {
        let message = format!("not imported, since {} describes the heaps", tree.path(own));
        report.add(Severity::Note, tree.path(node), tree.position(node), message);
    }
}
