// SPDX-License-Identifier: Apache-2.0
//! Rockchip: `rockchip,ion` (kernels 3.10 and 4.4). `rockchip,ion_heap`, the number of ION's type,
//! identifies a heap; without it, the node's name does.

use super::{Import, named, take_alignment, take_place};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, cells};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapName, HeapType, PageSize};

/// The id is ION's type number; the driver names the heaps. The last field is the name of the node
/// in kernel 4.4.
const HEAPS: &[(u32, &str, HeapType, &str)] = &[
    (0, "vmalloc", HeapType::System, "system-heap"),
    (1, "kmalloc", HeapType::SystemContig, "system-contig-heap"),
    (2, "carveout", HeapType::Carveout, "carveout-heap"),
    (4, "cma", HeapType::Dma, "cma-heap"),
    (5, "drm", HeapType::Custom, "drm-heap"),
];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "rockchip,ion")
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container) {
        import.heap(child, &["rockchip,ion_heap", "reg"], heap);
    }
}

fn heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let mut draft = if node.has("rockchip,ion_heap") { by_id(node, page)? } else { by_name(node, page)? };
    draft.deferred_free = matches!(draft.kind, HeapType::System | HeapType::Carveout);
    if draft.kind == HeapType::Custom {
        draft.unavailable = Some("a type of the vendor's own".to_owned());
    }
    match node.get("reg", cells).as_deref() {
        None => {}
        Some([base, size]) => {
            take_place(node, &mut draft, (u64::from(*base), u64::from(*size)), "reg", page);
        }
        Some([base, size, alignment]) => {
            take_place(node, &mut draft, (u64::from(*base), u64::from(*size)), "reg", page);
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
    if draft.kind == HeapType::Dma && draft.size.is_none() {
        draft.unavailable = Some("it has no reg, so its size is not known".to_owned());
    }
    Some(draft)
}

fn by_id(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let id = node.get("rockchip,ion_heap", cell)?;
    let Some((_, name, kind, _)) = HEAPS.iter().find(|(known, ..)| *known == id) else {
        let message = format!("rockchip,ion_heap is {id}, but Rockchip's ION has no heap of that id");
        node.fail("rockchip,ion_heap", message);
        return None;
    };
    let mut draft = named(node, name, *kind, "rockchip,ion_heap", page)?;
    draft.id = HeapId::new(id).ok();
    Some(draft)
}

/// Returns the heap with the node's name; the name in the other kernels is an alias.
fn by_name(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = node.tree.base_name(node.node);
    let Some((id, old, kind, _)) = HEAPS.iter().find(|(.., known)| *known == name) else {
        let known: Vec<_> = HEAPS.iter().map(|(.., known)| *known).collect();
        let known = known.join(", ");
        node.fail("", format!("the heap has no rockchip,ion_heap, its id, and its name is none of {known}"));
        return None;
    };
    let mut draft = named(node, name, *kind, "", page)?;
    draft.id = HeapId::new(*id).ok();
    draft.aliases.extend(HeapName::new(old));
    Some(draft)
}
