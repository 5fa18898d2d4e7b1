// SPDX-License-Identifier: Apache-2.0
//! HiSilicon: `hisilicon,hi6220-ion` (mainline to 4.11) and the vendor's binding for Kirin.
//! Allwinner uses Kirin's keys too.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Import, named, required_text, take_place, take_region, vendors_own};
use crate::config::diagnostic::Severity;
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, compatibles, is_compatible, number, read, text};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

/// Compatible string, id and kind. Driver and binding use the same names for the heaps.
const HI6220_HEAPS: &[(&str, u32, HeapType)] = &[
    ("sys_user", 0, HeapType::System),
    ("sys_contig", 1, HeapType::SystemContig),
    ("cma", 4, HeapType::Dma),
];

pub(super) fn claims_hi6220(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "hisilicon,hi6220-ion")
}

pub(super) fn import_hi6220(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container) {
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
    // Keys of secure heaps.
    "region-nr",
    "protect-id",
    "access-attr",
    "water-mark",
    "per-alloc-size",
    "per-bit-size",
];

/// Type words with their kind, and whether the CPU cannot access the memory. The secure types are
/// the vendor's own.
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
    // Allwinner's type.
    ("ion_contig", HeapType::SystemContig, false),
    ("ion_cma", HeapType::Dma, false),
    ("ion_secure", HeapType::Custom, true),
];

/// Returns whether the node is a container of Kirin's or Allwinner's heaps. HiSilicon has used
/// several names; all begin with the maker and have the same ending.
pub(super) fn claims_kirin(tree: &Tree, node: NodeId, compatible: &[String]) -> bool {
    let is_ion = |word: &String| word.starts_with("hisilicon,") && word.ends_with("ion");
    compatible.iter().any(|word| is_ion(word) || word == "allwinner,sunxi-ion")
        && tree.children(node).any(|child| tree.property(child, "heap-type").is_some())
}

pub(super) fn import_kirin(import: &mut Import<'_>, container: NodeId) {
    let (tree, pool) = (import.tree, import.default_pool);
    let names = Rc::clone(import.region_names.get_or_insert_with(|| region_names(tree)));
    for child in tree.children(container) {
        // Other children describe address ranges of the I/O MMU.
        if ["heap-type", "heap-id", "heap-name"].iter().any(|key| tree.property(child, key).is_some()) {
            import.heap(child, KIRIN_KEYS, |node, page| kirin_heap(node, &names, pool, page));
        }
    }
}

/// Reserved memory for Kirin's heaps, by `heap-name`.
pub(super) type RegionNames = Rc<HashMap<Vec<u8>, NodeId>>;

fn region_names(tree: &Tree) -> RegionNames {
    let mut names = HashMap::new();
    for region in region::all(tree).into_iter().filter(|region| is_compatible(tree, *region, "hisi_ion")) {
        let name = tree.property(region, "heap-name").and_then(|property| read(property, text).ok());
        if let Some(name) = name {
            names.entry(name.into_bytes()).or_insert(region);
        }
    }
    Rc::new(names)
}

fn kirin_heap(
    node: &mut NodeReader<'_>,
    names: &RegionNames,
    pool: Option<NodeId>,
    page: PageSize,
) -> Option<Draft> {
    let (name, region) = kirin_name(node, names)?;
    if !node.has("heap-id") {
        node.fail("heap-id", "heap-id is missing");
    }
    let id = node.get("heap-id", cell)?;
    let id = HeapId::new(id).map_err(|error| node.fail("heap-id", error.to_string())).ok()?;
    let word = required_text(node, "heap-type")?;
    let known = KIRIN_TYPES.iter().find(|(known, ..)| *known == word);
    let (kind, secure) = known.map_or((HeapType::Custom, false), |(_, kind, secure)| (*kind, *secure));
    let mut draft = named(node, &name, kind, "heap-name", page)?;
    draft.id = Some(id);
    draft.secure = secure;
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
    kirin_size(node, &mut draft, region, pool, page);
    if kind == HeapType::Custom && !secure {
        draft.unavailable = Some(match known {
            Some(_) => "only its driver defines the memory of ion_custom".to_owned(),
            None => vendors_own("heap-type", &format!("{word:?}")),
        });
    }
    Some(draft)
}

/// Reads the heap's name: `heap-name` is a string, or refers to the region with the name.
fn kirin_name(node: &mut NodeReader<'_>, names: &RegionNames) -> Option<(String, Option<NodeId>)> {
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
    let region = names.get(name.as_bytes()).copied();
    Some((name, region))
}

/// Reads the heap's size. 0 or all ones means the region's size. Pools of contiguous memory have
/// their size at the container, or share the default pool.
fn kirin_size(
    node: &mut NodeReader<'_>,
    draft: &mut Draft,
    region: Option<NodeId>,
    default_pool: Option<NodeId>,
    page: PageSize,
) {
    let base = node.get("heap-base", number).unwrap_or(0);
    let given = node.get("heap-size", number).unwrap_or(0);
    let is_placeholder = given == 0 || given == u64::from(u32::MAX) || given == u64::MAX;
    let of_container = || {
        let parent = node.tree.parent(node.node)?;
        let phandle = read(node.tree.property(parent, "memory-region")?, cell).ok()?;
        node.tree.by_phandle(phandle)
    };
    let pool = if draft.kind == HeapType::Dma { of_container().or(default_pool) } else { None };
    match region.or(pool) {
        _ if !is_placeholder => take_place(node, draft, (base, given), "heap-size", page),
        Some(region) => take_region(node, draft, region, "heap-size", page),
        None if matches!(draft.kind, HeapType::System | HeapType::SystemContig) => {}
        None => draft.unavailable = Some(format!("no reserved memory is named {}", draft.name)),
    }
}
