// SPDX-License-Identifier: Apache-2.0
//! The generic binding `linux,ion` (mainline 4.7 to 4.11). The tree has no heap ids; free ones are
//! assigned.

use super::{Import, named, take_region};
use crate::config::diagnostic::Severity;
use crate::config::property::compatibles;
use crate::config::tree::{NodeId, Tree};
use crate::units::HeapType;

const HEAP: &str = "linux,ion-heap-";

const TYPES: &[(&str, HeapType)] = &[
    ("system", HeapType::System),
    ("system-contig", HeapType::SystemContig),
    ("carveout", HeapType::Carveout),
    ("chunk", HeapType::Chunk),
    ("dma", HeapType::Dma),
    ("custom", HeapType::Custom),
];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "linux,ion")
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container) {
        let words = compatibles(import.tree, child);
        let kind = words
            .iter()
            .filter_map(|word| word.strip_prefix(HEAP))
            .find_map(|word| TYPES.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind));
        let Some(kind) = kind else {
            import.pass_over(Severity::Warning, child, "its compatible is no linux,ion-heap-* heap");
            continue;
        };
        import.heap(child, &["reg", "memory-region"], |node, page| {
            let name = node.tree.base_name(node.node).to_owned();
            let mut draft = named(node, &name, kind, "compatible", page)?;
            draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
            if node.has("memory-region") {
                let region = node.target("memory-region")?;
                take_region(node, &mut draft, region, "memory-region", page);
            } else if kind == HeapType::Dma {
                draft.unavailable = Some("it names no memory region".to_owned());
            }
            if kind == HeapType::Custom {
                draft.unavailable = Some("only its driver defines the memory of a custom heap".to_owned());
            }
            Some(draft)
        });
    }
}
