// SPDX-License-Identifier: Apache-2.0
//! Rockchip: `rockchip,ion` (kernels 3.10 and 4.4).

use super::{Import, named, take_alignment, take_size};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, cells, is_compatible};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

/// The id is ION's type number; the driver names the heaps.
const HEAPS: &[(u32, &str, HeapType)] = &[
    (0, "vmalloc", HeapType::System),
    (1, "kmalloc", HeapType::SystemContig),
    (2, "carveout", HeapType::Carveout),
    (4, "cma", HeapType::Dma),
    (5, "drm", HeapType::Custom),
];

pub(super) fn is_ion(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "rockchip,ion")
}

pub(super) fn import_ion(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container).collect::<Vec<_>>() {
        import.heap(child, &["rockchip,ion_heap", "reg"], heap);
    }
}

fn heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    if !node.has("rockchip,ion_heap") {
        node.fail("rockchip,ion_heap", "rockchip,ion_heap is missing: it is the heap's id");
    }
    let id = node.get("rockchip,ion_heap", cell)?;
    let Some((_, name, kind)) = HEAPS.iter().find(|(known, ..)| *known == id) else {
        let message = format!("rockchip,ion_heap is {id}, but Rockchip's ION has no heap of that id");
        node.fail("rockchip,ion_heap", message);
        return None;
    };
    let mut draft = named(node, name, *kind, "rockchip,ion_heap", page)?;
    draft.id = HeapId::new(id).ok();
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout);
    if *kind == HeapType::Custom {
        draft.unavailable = Some("a type of the vendor's own".to_owned());
    }
    let reg = node.get("reg", cells);
    match reg.as_deref() {
        None => {}
        Some([_base, size]) => placed(node, &mut draft, *size, page),
        Some([_base, size, alignment]) => {
            placed(node, &mut draft, *size, page);
            take_alignment(node, &mut draft, u64::from(*alignment), "reg");
        }
        Some(other) => {
            let count = other.len();
            node.fail(
                "reg",
                format!("reg has {count} cells, but it must be base, size and perhaps alignment"),
            );
        }
    }
    if *kind == HeapType::Dma && draft.size.is_none() {
        draft.unavailable = Some("it has no reg, so its size is not known".to_owned());
    }
    Some(draft)
}

/// Reads the size behind the heap's address. The system heaps have a reg of zeros.
fn placed(node: &mut NodeReader<'_>, draft: &mut Draft, size: u32, page: PageSize) {
    if size != 0 {
        take_size(node, draft, u64::from(size), "reg", page);
    }
}
