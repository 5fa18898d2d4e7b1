// SPDX-License-Identifier: Apache-2.0
//! HiSilicon: `hisilicon,hi6220-ion` (mainline to 4.11) and the vendor's binding for Kirin.

use super::{Import, named, required_text, take_region, take_size};
use crate::config::diagnostic::Severity;
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, compatibles, is_compatible, number, read, text};
use crate::config::region;
use crate::config::tree::{NodeId, Tree, Value};
use crate::units::{HeapId, HeapType, PageSize};

/// Compatible string, id and kind; the driver names the heaps as the binding does.
const HI6220_HEAPS: &[(&str, u32, HeapType)] = &[
    ("sys_user", 0, HeapType::System),
    ("sys_contig", 1, HeapType::SystemContig),
    ("cma", 4, HeapType::Dma),
];

pub(super) fn is_hi6220(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "hisilicon,hi6220-ion")
}

pub(super) fn import_hi6220(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container).collect::<Vec<_>>() {
        let words = compatibles(import.tree, child);
        let known = HI6220_HEAPS
            .iter()
            .find(|(name, ..)| words.iter().any(|word| word.strip_prefix("hisilicon,") == Some(name)));
        let Some((name, id, kind)) = known else {
            import.pass_over(Severity::Warning, child, "its compatible is no heap of hisilicon,hi6220-ion");
            continue;
        };
        import.heap(child, &["reg", "memory-region"], |node, page| {
            let mut draft = named(node, name, *kind, "compatible", page)?;
            draft.id = HeapId::new(*id).ok();
            if node.has("memory-region") {
                let region = node.target("memory-region")?;
                take_region(node, &mut draft, region, "memory-region", page);
            }
            Some(draft)
        });
    }
}

const KIRIN_KEYS: &[&str] = &[
    "reg",
    "heap-name",
    "heap-id",
    "heap-base",
    "heap-size",
    "heap-type",
    "memory-region",
    // Of secure heaps.
    "region-nr",
    "protect-id",
    "access-attr",
    "water-mark",
    "per-alloc-size",
    "per-bit-size",
];

/// Type words with their kind, and whether the memory is kept from the CPU. The secure ones are types of the
/// vendor's own.
const KIRIN_TYPES: &[(&str, HeapType, bool)] = &[
    ("ion_system", HeapType::System, false),
    ("ion_system_contig", HeapType::SystemContig, false),
    ("ion_carveout", HeapType::Carveout, false),
    ("ion_chunk", HeapType::Chunk, false),
    ("ion_dma", HeapType::Dma, false),
    ("ion_dma_pool", HeapType::Dma, false),
    ("ion_custom", HeapType::Custom, false),
    ("ion_sec", HeapType::Custom, true),
    ("ion_sec_sg", HeapType::Custom, true),
];

/// Returns whether it is a container of Kirin's heaps. The vendor has had several names for it;
/// they have the maker and the ending in common.
pub(super) fn is_kirin(tree: &Tree, node: NodeId) -> bool {
    compatibles(tree, node).iter().any(|word| word.starts_with("hisilicon,") && word.ends_with("ion"))
        && tree.children(node).any(|child| tree.property(child, "heap-type").is_some())
}

pub(super) fn import_kirin(import: &mut Import<'_>, container: NodeId) {
    let tree = import.tree;
    for child in tree.children(container).collect::<Vec<_>>() {
        // Other children describe address ranges of the I/O MMU.
        if ["heap-type", "heap-id", "heap-name"].iter().any(|key| tree.property(child, key).is_some()) {
            import.heap(child, KIRIN_KEYS, kirin_heap);
        }
    }
}

fn kirin_heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let (name, region) = kirin_name(node)?;
    if !node.has("heap-id") {
        node.fail("heap-id", "heap-id is missing");
    }
    let id = node.get("heap-id", cell)?;
    let id = HeapId::new(id).map_err(|error| node.fail("heap-id", error.to_string())).ok()?;
    let word = required_text(node, "heap-type")?;
    let Some((_, kind, secure)) = KIRIN_TYPES.iter().find(|(known, ..)| *known == word) else {
        node.fail("heap-type", format!("heap-type is {word:?}, which is not a known type"));
        return None;
    };
    let mut draft = named(node, &name, *kind, "heap-name", page)?;
    draft.id = Some(id);
    draft.secure = *secure;
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
    if *kind == HeapType::Custom && !secure {
        draft.unavailable = Some("ion_custom is whatever its driver makes of it".to_owned());
    }
    kirin_size(node, &mut draft, region, page);
    Some(draft)
}

/// Reads the heap's name: `heap-name` is a string, or refers to the region that has the name.
fn kirin_name(node: &mut NodeReader<'_>) -> Option<(String, Option<NodeId>)> {
    if !node.has("heap-name") {
        node.fail("heap-name", "heap-name is missing");
        return None;
    }
    let tree = node.tree;
    let named_region = |phandle| {
        let region = tree.by_phandle(phandle)?;
        let name = read(tree.property(region, "heap-name")?, text).ok()?;
        Some((name, region))
    };
    let property = tree.property(node.node, "heap-name")?;
    if read(property, text).is_err()
        && let Ok(phandle) = read(property, cell)
    {
        if let Some((name, region)) = named_region(phandle) {
            return Some((name, Some(region)));
        }
        node.fail(
            "heap-name",
            format!("heap-name is phandle {phandle:#x}, but no node with a heap-name has it"),
        );
        return None;
    }
    let name = node.get("heap-name", text)?;
    let wanted = Value::Bytes([name.as_bytes(), &[0]].concat());
    let region = region::all(tree).into_iter().find(|region| {
        tree.property(*region, "heap-name").is_some_and(|property| property.value == wanted)
            && is_compatible(tree, *region, "hisi_ion")
    });
    Some((name, region))
}

/// Reads the heap's size. 0 or all ones stands for the region's. Pools of contiguous memory have
/// theirs at the container.
fn kirin_size(node: &mut NodeReader<'_>, draft: &mut Draft, region: Option<NodeId>, page: PageSize) {
    let given = node.get("heap-size", number).unwrap_or(0);
    let is_placeholder = given == 0 || given == u64::from(u32::MAX) || given == u64::MAX;
    let of_container = || {
        let parent = node.tree.parent(node.node)?;
        let phandle = read(node.tree.property(parent, "memory-region")?, cell).ok()?;
        node.tree.by_phandle(phandle)
    };
    let pool = if draft.kind == HeapType::Dma { of_container() } else { None };
    match region.or(pool) {
        _ if !is_placeholder => take_size(node, draft, given, "heap-size", page),
        Some(region) => take_region(node, draft, region, "heap-size", page),
        None if matches!(draft.kind, HeapType::System | HeapType::SystemContig) => {}
        None => draft.unavailable = Some(format!("no reserved memory is named {}", draft.name)),
    }
}
