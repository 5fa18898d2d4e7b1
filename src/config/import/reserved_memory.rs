// SPDX-License-Identifier: Apache-2.0
//! Reserved memory that is a heap by itself: MediaTek's ION carveout, chunk dma-heaps, and plain
//! pools of contiguous memory. Newer kernels offer each as a dma-heap with the node's name.

use std::collections::BTreeSet;

use super::{Import, named, take_region, trusted};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, is_compatible};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

/// Keys of a pool in addition to those of every region.
const KEYS: &[&str] = &["linux,cma-default", "chunk-order"];

const CARVEOUT: &str = "mediatek,ion-carveout-heap";
const CHUNK: &str = "dma_heap,chunk";
/// The kernel's default if `chunk-order` is missing.
const DEFAULT_CHUNK_ORDER: u32 = 4;
/// The smallest block of contiguous memory that kernels manage, as an order of pages: 2 MiB with
/// pages of 4 KiB.
const BLOCK_ORDER: u32 = 9;

pub(super) fn claims(tree: &Tree, node: NodeId, compatible: &[String]) -> bool {
    region::is_reserved(tree, node)
        && compatible.iter().any(|word| [CARVEOUT, CHUNK].contains(&word.as_str()))
}

pub(super) fn import_heap(import: &mut Import<'_>, node: NodeId) {
    import.region(node, KEYS, |node, page| {
        if is_compatible(node.tree, node.node, CHUNK) {
            chunk(node, page)
        } else {
            plain(node, HeapType::Carveout, page)
        }
    });
}

/// Reads every plain pool except those in `taken`, which belong to the TEE or were read as other
/// heaps.
pub(super) fn import_pools(import: &mut Import<'_>, taken: &BTreeSet<NodeId>) {
    for node in region::all(import.tree) {
        if region::is_cma_pool(import.tree, node) && !taken.contains(&node) {
            import.region(node, KEYS, pool);
        }
    }
}

fn pool(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let mut draft = plain(node, HeapType::Dma, page)?;
    draft.secure = trusted::is_named_so(node.tree.base_name(node.node));
    let ranges = region::ranges(node.tree, node.node);
    if ranges > 1 {
        node.warn("reg", format!("reg has {ranges} ranges, but the pool is only the first"));
    }
    let block = page.bytes() << BLOCK_ORDER;
    let is_whole = |number: u64| number.is_multiple_of(block);
    if let Some(size) = draft.size
        && !(is_whole(size) && draft.base.is_none_or(is_whole))
    {
        let key = if node.has("reg") { "reg" } else { "size" };
        let message =
            format!("base and size are no multiples of {block:#x}: most kernels refuse such a pool");
        node.warn(key, message);
    }
    Some(draft)
}

fn plain(node: &mut NodeReader<'_>, kind: HeapType, page: PageSize) -> Option<Draft> {
    let name = node.tree.name(node.node).to_owned();
    let mut draft = named(node, &name, kind, "compatible", page)?;
    take_region(node, &mut draft, node.node, if node.has("reg") { "reg" } else { "size" }, page);
    Some(draft)
}

fn chunk(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let mut draft = plain(node, HeapType::Chunk, page)?;
    let order = node.get("chunk-order", cell).unwrap_or(DEFAULT_CHUNK_ORDER);
    let bytes = page.bytes().checked_shl(order).filter(|bytes| bytes >> order == page.bytes());
    match (bytes, draft.size) {
        (Some(bytes), Some(size)) if size.is_multiple_of(bytes) => draft.chunk_size = Some(bytes),
        (_, None) => {}
        (_, Some(size)) => {
            node.fail(
                "chunk-order",
                format!("chunk-order is {order}, but such chunks do not divide the size {size:#x}"),
            );
        }
    }
    Some(draft)
}
