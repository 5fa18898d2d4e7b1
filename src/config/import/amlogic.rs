// SPDX-License-Identifier: Apache-2.0
//! Amlogic: `amlogic, ion_dev`, whose memory region is a heap, and the pools of its video decoder
//! (`codec_mm`), which the driver offers as a heap type of its own.

use super::{Import, named, take_region};
use crate::config::draft::Draft;
use crate::config::property::NodeReader;
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

/// The node may name its region, and has no other keys.
const KEYS: &[&str] = &["memory-region"];
/// Keys of a pool in addition to those of every region: they belong to the decoder.
const POOL_KEYS: &[&str] = &["linux,contiguous-region", "clear-map"];
/// Common part of the names of the decoder's pools.
const CODEC: &str = "codec_mm";

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| ["amlogic, ion_dev", "amlogic,ion_dev"].contains(&word.as_str()))
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    if import.tree.property(container, "memory-region").is_some() {
        import.heap(container, KEYS, ion);
    }
}

/// Returns whether the node is one of the decoder's pools.
pub(super) fn claims_codec(tree: &Tree, node: NodeId, compatible: &[String]) -> bool {
    region::is_reserved(tree, node)
        && tree.base_name(node).contains(CODEC)
        && compatible.iter().any(|word| word == "shared-dma-pool" || word.starts_with("amlogic"))
}

pub(super) fn import_codec(import: &mut Import<'_>, pool: NodeId) {
    import.region(pool, POOL_KEYS, codec);
}

/// Reads the region. The heap has the driver's name: `cma_ion` for a pool, `carveout_ion` for other
/// memory.
fn ion(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let region = node.target("memory-region")?;
    let is_pool = region::is_cma_pool(node.tree, region);
    let (kind, id, alias) =
        if is_pool { (HeapType::Dma, 4, "cma_ion") } else { (HeapType::Carveout, 2, "carveout_ion") };
    let name = node.tree.base_name(region).to_owned();
    let mut draft = named(node, &name, kind, "memory-region", page)?;
    draft.id = HeapId::new(id).ok();
    draft.aliases.extend(crate::units::HeapName::new(alias));
    draft.deferred_free = kind == HeapType::Carveout;
    take_region(node, &mut draft, region, "memory-region", page);
    Some(draft)
}

fn codec(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = node.tree.base_name(node.node).to_owned();
    let mut draft = named(node, &name, HeapType::Custom, "", page)?;
    take_region(node, &mut draft, node.node, if node.has("reg") { "reg" } else { "size" }, page);
    let reason = "memory of Amlogic's video decoder (codec_mm), which only its board's kernel hands out";
    draft.unavailable.get_or_insert_with(|| reason.to_owned());
    Some(draft)
}
