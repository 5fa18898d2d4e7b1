// SPDX-License-Identifier: Apache-2.0
//! Recognises containers of heaps that no binding reads, so that the report names them.

use crate::config::region;
use crate::config::tree::{NodeId, Tree};

/// Words in the `compatible` strings of reserved memory from which a container elsewhere in the
/// tree makes heaps.
const REGIONS: &[&str] = &["hisi_ion", "ion-region", "linux,ion-region", "marvell,ion-heap"];

/// Words before `ion` in the names of lithium-ion batteries.
const BATTERIES: &[&str] = &["li", "lithium"];

/// Names of containers, without unit address.
const NAMES: &[&str] = &["ion", "ion-heaps", "ion_heaps", "dma-heaps", "dma_heaps", "dmaheaps"];

/// Suffixes of the keys of heaps, after the vendor's prefix.
const KEYS: &[&str] = &[
    "ion-heap-type",
    "ion-heap-name",
    "ion-heap-id",
    "ion_heap",
    "dma-heap-type",
    "dma-heap-name",
    "ion-name",
    "ion-type",
    "ion-id",
    "heap-type",
    "heap-name",
    "heap-id",
    "heapname",
];

/// Returns whether the node looks like a container of heaps, or like a heap without one. Checks the
/// words of its `compatible` strings, its name with that of a child, the keys of a child, and its
/// own keys if no container can enclose it.
pub(super) fn is_container(tree: &Tree, node: NodeId, compatible: &[String]) -> bool {
    let is_place = |node| node == tree.root() || region::reserved_memory(tree) == Some(node);
    if is_place(node) || compatible.iter().any(|word| REGIONS.contains(&word.as_str())) {
        return false;
    }
    let has_heap_key = |node| tree.properties(node).any(|(key, _)| is_heap_key(key));
    compatible.iter().any(|word| speaks_of_heaps(word))
        || (NAMES.contains(&tree.base_name(node))
            && tree.children(node).any(|child| tree.base_name(child).contains("heap")))
        || tree.children(node).any(has_heap_key)
        || (tree.parent(node).is_some_and(is_place) && has_heap_key(node))
}

fn speaks_of_heaps(compatible: &str) -> bool {
    let words: Vec<&str> = compatible.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_ion = |at: usize| words[at] == "ion" && (at == 0 || !BATTERIES.contains(&words[at - 1]));
    (0..words.len()).any(|at| {
        is_ion(at) || ["heap", "heaps", "dmaheap", "dmaheaps", "ionheap", "ionheaps"].contains(&words[at])
    })
}

fn is_heap_key(key: &str) -> bool {
    let own = key.rsplit_once(',').map_or(key, |(_, own)| own);
    KEYS.contains(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_heaps_are_told_from_others() {
        for heaps in [
            "acme,ion",
            "acme,ion-heaps",
            "acme, ion_dev",
            "acme,dma-heap-gcma",
            "acme,dmaheaps",
            "acme,x-heap",
        ] {
            assert!(speaks_of_heaps(heaps), "{heaps}");
        }
        for other in [
            "acme,li-ion-battery",
            "acme,lithium-ion",
            "acme,motion",
            "acme,version",
            "heaped,x",
            "shared-dma-pool",
        ] {
            assert!(!speaks_of_heaps(other), "{other}");
        }
        assert!(
            is_heap_key("acme,heap-id") && is_heap_key("heap-name") && !is_heap_key("acme,heap-identity")
        );
    }
}
