// SPDX-License-Identifier: Apache-2.0
//! Qualcomm: `qcom,msm-ion` (kernels 3.x to 4.19) and `qcom,dma-heaps` (5.10 on).

use super::{Import, named, required_text, take_alignment, take_region, take_size};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, is_compatible, number};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapName, HeapType, PageSize};

const ION_KEYS: &[&str] = &[
    "reg",
    "qcom,ion-heap-type",
    "qti,ion-heap-type",
    "memory-region",
    "linux,contiguous-region",
    "qcom,heap-align",
    "qcom,heap-adjacent",
    "qcom,memory-reservation-size",
    "qcom,memory-reservation-type",
    "qcom,memory-fixed",
    "qcom,default-prefetch-size",
];

/// The driver names heaps by id; the second name is what other kernels call the same id.
const ION_NAMES: &[(u32, &str, Option<&str>)] = &[
    (8, "mm", None),
    (9, "secure_heap", Some("secure")),
    (10, "secure_display", None),
    (12, "mfc", None),
    (13, "spss", None),
    (14, "secure_carveout", None),
    (16, "wb", None),
    (19, "qsecom_ta", None),
    (20, "camera", Some("camera_preview")),
    (21, "kmalloc", None),
    (22, "adsp", None),
    (23, "pil_1", None),
    (24, "sf", None),
    (25, "system", Some("ion_system_heap")),
    (26, "user_contig", Some("pil_2")),
    (27, "qsecom", None),
    (28, "audio", None),
    (29, "mm_fw", None),
];

/// Type words with their kind, and whether the memory is kept from the CPU.
const ION_TYPES: &[(&str, HeapType, bool)] = &[
    ("SYSTEM", HeapType::System, false),
    ("SYSTEM_CONTIG", HeapType::SystemContig, false),
    ("CARVEOUT", HeapType::Carveout, false),
    ("CHUNK", HeapType::Chunk, false),
    ("DMA", HeapType::Dma, false),
    ("SECURE_CARVEOUT", HeapType::Carveout, true),
    ("SECURE_DMA", HeapType::Dma, true),
    ("SYSTEM_SECURE", HeapType::System, true),
    ("HYP_CMA", HeapType::Dma, true),
    ("CP", HeapType::Carveout, true),
    ("REMOVED", HeapType::Carveout, true),
];

pub(super) fn is_ion(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "qcom,msm-ion") || is_compatible(tree, node, "qti,msm-ion")
}

pub(super) fn import_ion(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container).collect::<Vec<_>>() {
        import.heap(child, ION_KEYS, ion_heap);
    }
}

fn ion_heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    if !node.has("reg") {
        node.fail("reg", "reg is missing: it is the heap's id");
    }
    let number_given = node.get("reg", cell)?;
    let id = HeapId::new(number_given).map_err(|error| node.fail("reg", error.to_string())).ok()?;
    let Some((_, name, other)) = ION_NAMES.iter().find(|(known, ..)| *known == number_given) else {
        node.fail("reg", format!("reg is {number_given}, but Qualcomm's ION has no heap of that id"));
        return None;
    };
    let key = if node.has("qti,ion-heap-type") { "qti,ion-heap-type" } else { "qcom,ion-heap-type" };
    let word = required_text(node, key)?;
    let Some((_, kind, secure)) = ION_TYPES.iter().find(|(known, ..)| *known == word) else {
        node.fail(key, format!("{key} is {word:?}, which is not a known type"));
        return None;
    };
    let mut draft = named(node, name, *kind, "reg", page)?;
    draft.id = Some(id);
    draft.aliases.extend(other.and_then(|other| HeapName::new(other).ok()));
    draft.secure = *secure;
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
    if let Some(alignment) = node.get("qcom,heap-align", number) {
        take_alignment(node, &mut draft, alignment, "qcom,heap-align");
    }
    ion_size(node, &mut draft, page);
    Some(draft)
}

/// Reads the size of the region; a heap of contiguous memory without one shares the default pool.
fn ion_size(node: &mut NodeReader<'_>, draft: &mut Draft, page: PageSize) {
    for key in ["memory-region", "linux,contiguous-region"] {
        if node.has(key) {
            if let Some(region) = node.target(key) {
                take_region(node, draft, region, key, page);
            }
            return;
        }
    }
    if let Some(bytes) = node.get("qcom,memory-reservation-size", number) {
        take_size(node, draft, bytes, "qcom,memory-reservation-size", page);
    } else if draft.kind == HeapType::Dma {
        match region::default_cma_pool(node.tree) {
            Some(pool) => take_region(node, draft, pool, "reg", page),
            None => {
                draft.unavailable = Some("it names no memory region and there is no default pool".to_owned())
            }
        }
    }
}

const DMA_KEYS: &[&str] = &[
    "reg",
    "qcom,dma-heap-name",
    "qcom,dma-heap-type",
    "memory-region",
    "qcom,token",
    "qcom,max-align",
    "qcom,uncached-heap",
    "qcom,dynamic-heap",
];

pub(super) fn is_dma_heaps(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "qcom,dma-heaps")
}

pub(super) fn import_dma_heaps(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container).collect::<Vec<_>>() {
        import.heap(child, DMA_KEYS, dma_heap);
    }
}

fn dma_heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = required_text(node, "qcom,dma-heap-name")?;
    if !node.has("qcom,dma-heap-type") {
        node.fail("qcom,dma-heap-type", "qcom,dma-heap-type is missing");
    }
    let number_given = node.get("qcom,dma-heap-type", cell)?;
    let region = if node.has("memory-region") { Some(node.target("memory-region")?) } else { None };
    let (kind, secure, doubt) = match number_given {
        0 | 3 => (HeapType::Carveout, true, None),
        1 => number_one(node.tree, region),
        2 => (HeapType::Dma, false, None),
        other => {
            node.fail("qcom,dma-heap-type", format!("qcom,dma-heap-type is {other}, but it must be 0 to 3"));
            return None;
        }
    };
    let mut draft = named(node, &name, kind, "qcom,dma-heap-name", page)?;
    draft.secure = secure;
    draft.cached = !node.flag("qcom,uncached-heap");
    if let Some(order) = node.get("qcom,max-align", cell) {
        match page.bytes().checked_shl(order).filter(|bytes| bytes >> order == page.bytes()) {
            Some(bytes) => take_alignment(node, &mut draft, bytes, "qcom,max-align"),
            None => {
                node.fail("qcom,max-align", format!("qcom,max-align is {order}, which is no order of pages"))
            }
        }
    }
    match region {
        Some(region) => take_region(node, &mut draft, region, "memory-region", page),
        None => draft.unavailable = Some("it names no memory region".to_owned()),
    }
    draft.unavailable = doubt.or(draft.unavailable);
    Some(draft)
}

/// Returns what type 1 is: a carveout in most kernels, but contiguous memory in early ones. The
/// region tells which: only contiguous memory is reusable, and only memory set aside is not mapped.
/// If it says neither, nothing is guessed.
fn number_one(tree: &Tree, region: Option<NodeId>) -> (HeapType, bool, Option<String>) {
    let has = |key| region.is_some_and(|region| tree.property(region, key).is_some());
    if has("reusable") {
        return (HeapType::Dma, false, None);
    }
    let doubt = "qcom,dma-heap-type 1 means carveout in some kernels and contiguous memory in others, and its \
                 region does not tell which";
    (HeapType::Carveout, false, (!has("no-map")).then(|| doubt.to_owned()))
}
