// SPDX-License-Identifier: Apache-2.0
//! NVIDIA: `nvidia,carveouts`, whose `memory-region` lists heaps of nvmap.

use super::{Import, named, take_region};
use crate::config::property::{compatibles, switched_off};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapName, HeapType};

/// Keys of a carveout in addition to those of every region.
const KEYS: &[&str] = &["iommus", "#memory-region-cells"];
/// The region that the TEE protects from the CPU: copy-protected video.
const PROTECTED: &str = "nvidia,vpr-carveout";
/// Suffix of the names of carveouts, which nvmap removes.
const SUFFIX: &str = "-carveout";

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "nvidia,carveouts")
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    let tree = import.tree;
    let off = switched_off(tree, container).map(|why| format!("{}: {why}", tree.path(container)));
    for region in region::targets(tree, container, "memory-region") {
        import.region(region, KEYS, |node, page| {
            let name = tree.base_name(region).to_owned();
            let is_pool = region::is_cma_pool(tree, region);
            let kind = if is_pool { HeapType::Dma } else { HeapType::Carveout };
            let mut draft = named(node, &name, kind, "", page)?;
            draft.aliases.extend(name.strip_suffix(SUFFIX).and_then(|short| HeapName::new(short).ok()));
            draft.secure = compatibles(tree, region).iter().any(|word| word == PROTECTED);
            draft.deferred_free = kind == HeapType::Carveout;
            take_region(node, &mut draft, region, if node.has("reg") { "reg" } else { "size" }, page);
            draft.unavailable = off.clone().or(draft.unavailable);
            Some(draft)
        });
    }
}
