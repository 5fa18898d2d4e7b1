// SPDX-License-Identifier: Apache-2.0
//! NXP: `fsl,mxc-ion`. The node is one heap of contiguous memory, or its children are heaps, with
//! kinds by their `compatible` strings.

use super::{Import, named, take_default_pool, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, compatibles, text};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

const KEYS: &[&str] =
    &["reg", "memory-region", "fsl,heap-id", "fsl,heap-name", "fsl,heap-cacheable", "interrupts"];

/// A child's `compatible` string, its id, kind and name.
const CHILDREN: &[(&str, u32, HeapType, &str)] = &[
    ("fsl,cma", 0, HeapType::Dma, "cma"),
    ("fsl,sys-contig", 1, HeapType::SystemContig, "sys-contig"),
    ("fsl,system", 2, HeapType::System, "system"),
];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "fsl,mxc-ion")
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    let (tree, pool) = (import.tree, import.default_pool);
    if tree.children(container).next().is_none() {
        import.heap(container, KEYS, |node, page| alone(node, pool, page));
    }
    for child in tree.children(container) {
        import.heap(child, KEYS, |node, page| one_of_several(node, pool, page));
    }
}

/// Reads a node that is the only heap.
fn alone(node: &mut NodeReader<'_>, pool: Option<NodeId>, page: PageSize) -> Option<Draft> {
    let name = node.get("fsl,heap-name", text).unwrap_or_else(|| "mxc_ion".to_owned());
    let id = node.get("fsl,heap-id", cell).unwrap_or(0);
    let mut draft = named(node, &name, HeapType::Dma, "fsl,heap-name", page)?;
    draft.id = Some(HeapId::new(id).map_err(|error| node.fail("fsl,heap-id", error.to_string())).ok()?);
    memory(node, &mut draft, pool, page);
    Some(draft)
}

fn one_of_several(node: &mut NodeReader<'_>, pool: Option<NodeId>, page: PageSize) -> Option<Draft> {
    let words = compatibles(node.tree, node.node);
    let known = CHILDREN.iter().find(|(word, ..)| words.iter().any(|compatible| compatible == word));
    let Some((_, id, kind, name)) = known else {
        node.warn("compatible", "its compatible is no heap of fsl,mxc-ion");
        return None;
    };
    let mut draft = named(node, name, *kind, "compatible", page)?;
    draft.id = HeapId::new(*id).ok();
    if *kind == HeapType::Dma {
        memory(node, &mut draft, pool, page);
    }
    Some(draft)
}

fn memory(node: &mut NodeReader<'_>, draft: &mut Draft, pool: Option<NodeId>, page: PageSize) {
    if !node.has("memory-region") {
        take_default_pool(node, draft, pool, "compatible", page);
    } else if let Some(region) = node.target("memory-region") {
        take_region(node, draft, region, "memory-region", page);
    }
}
