// SPDX-License-Identifier: Apache-2.0
//! Reserved memory that is a heap by itself: MediaTek's ION carveout, chunk dma-heaps, and plain pools of
//! contiguous memory, each of which newer kernels offer as a dma-heap of the node's name.

use super::{Import, named, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, is_compatible};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

const KEYS: &[&str] =
    &["reg", "size", "alignment", "alloc-ranges", "no-map", "reusable", "linux,cma-default", "chunk-order"];

const CARVEOUT: &str = "mediatek,ion-carveout-heap";
const CHUNK: &str = "dma_heap,chunk";
/// The kernel's when `chunk-order` is missing.
const DEFAULT_CHUNK_ORDER: u32 = 4;

pub(super) fn is_heap(tree: &Tree, node: NodeId) -> bool {
    region::is_reserved(tree, node) && [CARVEOUT, CHUNK].iter().any(|word| is_compatible(tree, node, word))
}

pub(super) fn import_heap(import: &mut Import<'_>, node: NodeId) {
    import.heap(node, KEYS, |node, page| {
        if is_compatible(node.tree, node.node, CHUNK) {
            chunk(node, page)
        } else {
            plain(node, HeapType::Carveout, page)
        }
    });
}

pub(super) fn import_pools(import: &mut Import<'_>) {
    for node in region::all(import.tree) {
        if region::is_cma_pool(import.tree, node) {
            import.heap(node, KEYS, |node, page| plain(node, HeapType::Dma, page));
        }
    }
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
