// SPDX-License-Identifier: Apache-2.0
//! Qualcomm: `qcom,msm-ion` (kernels 3.4 to 5.4). The whole container determines which of three
//! forms it has: if no heap has a type, the id determines the type (3.4); ids are bit masks in 5.4,
//! else numbers.

use super::{
    Import, named, required_text, take_alignment, take_cells, take_default_pool, take_region, take_size,
    vendors_own,
};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, number as bytes, read, text};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapName, HeapType, PageSize};

const KEYS: &[&str] = &[
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

const TYPES: [&str; 2] = ["qcom,ion-heap-type", "qti,ion-heap-type"];

/// The driver names heaps by id; the second name is that of the same id in other kernels.
const NAMES: &[(u32, &str, Option<&str>)] = &[
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
    (30, "vmalloc", None),
];

/// The same for kernel 5.4, where an id is a bit of a mask: the number of the bit.
const MASK_NAMES: &[(u32, &str, Option<&str>)] = &[
    (1, "qsecom_ta", None),
    (2, "camera", None),
    (3, "display", None),
    (4, "adsp", None),
    (5, "audio_ml", None),
    (6, "user_contig", None),
    (7, "qsecom", None),
    (8, "audio", None),
    (9, "mm", None),
    (10, "secure_heap", Some("secure")),
    (11, "secure_display", None),
    (14, "spss", None),
    (15, "secure_carveout", None),
    (16, "tui_carveout", None),
    (25, "system", Some("ion_system_heap")),
];

/// Kinds by id for kernel 3.4, whose heaps have no type. Other ids are carveouts.
const KINDS_BY_ID: &[(u32, HeapType, bool)] = &[
    (8, HeapType::Carveout, true),
    (12, HeapType::Carveout, true),
    (16, HeapType::Carveout, true),
    (21, HeapType::SystemContig, false),
    (25, HeapType::System, false),
    (30, HeapType::System, false),
];

/// Name of the heap of this id in kernel 3.4, if it differs from later kernels.
const OLD_NAMES: &[(u32, &str, Option<&str>)] =
    &[(25, "iommu", Some("system")), (26, "pil_2", Some("user_contig"))];

/// Type words with their kind, and whether the CPU cannot access the memory.
const KINDS: &[(&str, HeapType, bool)] = &[
    ("SYSTEM", HeapType::System, false),
    ("MSM_SYSTEM", HeapType::System, false),
    ("IOMMU", HeapType::System, false),
    ("SYSTEM_CONTIG", HeapType::SystemContig, false),
    ("CARVEOUT", HeapType::Carveout, false),
    ("MSM_CARVEOUT", HeapType::Carveout, false),
    ("CHUNK", HeapType::Chunk, false),
    ("DMA", HeapType::Dma, false),
    ("SECURE_CARVEOUT", HeapType::Carveout, true),
    ("SECURE_DMA", HeapType::Dma, true),
    ("SYSTEM_SECURE", HeapType::System, true),
    ("HYP_CMA", HeapType::Dma, true),
    ("CP", HeapType::Carveout, true),
    ("REMOVED", HeapType::Carveout, true),
];

/// The form of id and type in a container's heaps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Kernel 3.4: no types.
    Untyped,
    /// Ids are numbers.
    Numbers,
    /// Kernel 5.4: ids have one bit set.
    Masks,
}

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| ["qcom,msm-ion", "qti,msm-ion"].contains(&word.as_str()))
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    let form = form(import.tree, container);
    let pool = import.default_pool;
    for child in import.tree.children(container) {
        import.heap(child, KEYS, |node, page| heap(node, form, pool, page));
    }
}

/// Returns the form of a container. Only masks can be larger than all ids, and only kernel 5.4 has
/// the types that begin with MSM.
fn form(tree: &Tree, container: NodeId) -> Form {
    let word = |heap| TYPES.iter().find_map(|key| read(tree.property(heap, key)?, text).ok());
    let is_mask = |heap| {
        let reg = tree.property(heap, "reg").and_then(|reg| read(reg, cell).ok());
        reg.is_some_and(|reg| reg > 31 && reg.is_power_of_two())
    };
    let has_type = |heap| TYPES.iter().any(|key| tree.property(heap, key).is_some());
    if tree
        .children(container)
        .any(|heap| is_mask(heap) || word(heap).is_some_and(|word| word.starts_with("MSM_")))
    {
        Form::Masks
    } else if tree.children(container).any(has_type) {
        Form::Numbers
    } else {
        Form::Untyped
    }
}

fn heap(node: &mut NodeReader<'_>, form: Form, pool: Option<NodeId>, page: PageSize) -> Option<Draft> {
    let (id, number) = id(node, form)?;
    let names = match form {
        Form::Untyped => [OLD_NAMES, NAMES].concat(),
        Form::Numbers => NAMES.to_vec(),
        Form::Masks => MASK_NAMES.to_vec(),
    };
    let Some((_, name, other)) = names.iter().find(|(known, ..)| *known == number) else {
        let what = if form == Form::Masks { " as a bit mask" } else { "" };
        let reg = node.get("reg", cell)?;
        node.fail("reg", format!("reg is {reg}, but Qualcomm's ION has no heap of that id{what}"));
        return None;
    };
    let (kind, secure, doubt) = if form == Form::Untyped { kind_by_id(number) } else { kind(node)? };
    let mut draft = named(node, name, kind, "reg", page)?;
    draft.id = Some(id);
    draft.aliases.extend(other.and_then(|other| HeapName::new(other).ok()));
    draft.secure = secure;
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
    if let Some(alignment) = node.get("qcom,heap-align", bytes) {
        take_alignment(node, &mut draft, alignment, "qcom,heap-align");
    }
    size(node, &mut draft, pool, page);
    draft.unavailable = doubt.or(draft.unavailable);
    Some(draft)
}

/// Reads the heap's id, and its number in the tables of names.
fn id(node: &mut NodeReader<'_>, form: Form) -> Option<(HeapId, u32)> {
    if !node.has("reg") {
        node.fail("reg", "reg is missing: it is the heap's id");
    }
    let reg = node.get("reg", cell)?;
    let number = match form {
        Form::Masks if !reg.is_power_of_two() => {
            node.fail("reg", format!("reg is {reg:#x}, but an id is one bit of a mask in this container"));
            return None;
        }
        Form::Masks => reg.trailing_zeros(),
        Form::Numbers | Form::Untyped => reg,
    };
    let id = HeapId::new(number).map_err(|error| node.fail("reg", error.to_string())).ok()?;
    Some((id, number))
}

/// Kind of a heap, whether the CPU cannot access it, and the reason if it certainly cannot be
/// served.
type Kind = (HeapType, bool, Option<String>);

fn kind_by_id(number: u32) -> Kind {
    let known = KINDS_BY_ID.iter().find(|(id, ..)| *id == number);
    known.map_or((HeapType::Carveout, false, None), |(_, kind, secure)| (*kind, *secure, None))
}

/// Reads the type. A type that no table has is the vendor's own: the heap is listed, and not
/// served.
fn kind(node: &mut NodeReader<'_>) -> Option<Kind> {
    let key = if node.has(TYPES[1]) { TYPES[1] } else { TYPES[0] };
    let word = required_text(node, key)?;
    let known = KINDS.iter().find(|(known, ..)| *known == word);
    Some(known.map_or_else(
        || (HeapType::Custom, false, Some(vendors_own(key, &format!("{word:?}")))),
        |(_, kind, secure)| (*kind, *secure, None),
    ))
}

/// Reads the size of the region; a heap of contiguous memory without one shares the default pool.
fn size(node: &mut NodeReader<'_>, draft: &mut Draft, pool: Option<NodeId>, page: PageSize) {
    for key in ["memory-region", "linux,contiguous-region"] {
        if node.has(key) {
            if let Some(region) = node.target(key) {
                take_region(node, draft, region, key, page);
            }
            return;
        }
    }
    if node.has("qcom,memory-fixed") {
        // The key has address and size.
        take_cells(node, draft, "qcom,memory-fixed", page);
    } else if let Some(size) = node.get("qcom,memory-reservation-size", bytes) {
        take_size(node, draft, size, "qcom,memory-reservation-size", page);
    } else if draft.kind == HeapType::Dma {
        take_default_pool(node, draft, pool, "reg", page);
    }
}
