// SPDX-License-Identifier: Apache-2.0
//! Memory that the trusted execution environment (TEE) protects from the CPU. Every such node is
//! listed as a heap that cannot be served, and its reserved memory is no heap for clients.

use super::{Import, named, take_region};
use crate::config::property::NodeReader;
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

/// Prefixes of the `compatible` strings of such nodes.
const CONTAINERS: &[&str] = &[
    // MediaTek: secure memory, its dma-heaps, and the memory that they share.
    "mediatek,trusted_mem",
    "mediatek,dmaheap-",
    "mediatek,ssmr",
    "mediatek,memory-ssmr",
    "mediatek,memory_ssmr",
    // Amlogic.
    "amlogic, ion-secure-mem",
    "amlogic,ion-secure-mem",
    // Mainline.
    "linaro,secure-heap",
];

/// Words in the names of the TEE's reserved memory, if no node assigns it to the TEE.
const WORDS: &[&str] = &["ssmr", "ssheap", "tee", "optee", "trusty", "svp", "secmem", "secmon", "secos"];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| CONTAINERS.iter().any(|start| word.starts_with(start)))
}

/// Returns whether a region belongs to the TEE by its name.
pub(super) fn is_named_so(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    let tree = import.tree;
    let regions = match region::targets(tree, container, "memory-region").as_slice() {
        [] if region::is_reserved(tree, container) => vec![container],
        regions => regions.to_vec(),
    };
    // The other keys of such nodes are for the TEE, so no key is unknown.
    if regions.is_empty() {
        import.heap_of_any_keys(container, |node, page| heap(node, None, page));
    }
    for region in regions {
        import.heap_of_any_keys(container, |node, page| heap(node, Some(region), page));
    }
}

fn heap(
    node: &mut NodeReader<'_>,
    region: Option<NodeId>,
    page: PageSize,
) -> Option<crate::config::draft::Draft> {
    let name: String = node.tree.base_name(node.node).chars().take(crate::units::MAX_NAME_BYTES).collect();
    let mut draft = named(node, &name, HeapType::Custom, "", page)?;
    draft.secure = true;
    if let Some(region) = region {
        if region::is_cma_pool(node.tree, region) {
            draft.kind = HeapType::Dma;
        }
        take_region(node, &mut draft, region, "memory-region", page);
    }
    Some(draft)
}
