// SPDX-License-Identifier: Apache-2.0
//! Samsung: ION of Exynos. Heaps are reserved memory, `exynosNNNN-ion` with `ion,heapname` (kernels
//! 4.14 on) or `exynosNNNN-ion,NAME` (before); children of `ion-hpa-heap`; and nodes that refer to
//! their memory, `exynos,ion,cma_heap` and `exynos,ion,carveout_heap` (5.4).

use super::{Import, named, required_text, take_alignment, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell, compatibles, number};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

/// Keys of a heap in addition to those of every region.
const KEYS: &[&str] = &[
    "ion,heapname",
    "ion,alignment",
    "ion,reusable",
    "ion,recyclable",
    "ion,secure",
    "ion,untouchable",
    "ion,protection_id",
    "memory-region",
    "secure",
    "id",
    // Older ids of this heap: clients use the present one or the name.
    "compat-id",
];

/// Parent of the heaps of pages of high order.
const HIGH_ORDER: &str = "ion-hpa-heap";

/// The memory of a heap.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// The node is reserved memory; the name, if it is in the `compatible` string.
    Reserved(Option<String>),
    /// Pages of high order, which the kernel allocates on request.
    HighOrder,
    /// The node refers to reserved memory.
    Region(HeapType),
}

pub(super) fn claims(tree: &Tree, node: NodeId, compatible: &[String]) -> bool {
    form(tree, node, compatible).is_some()
}

pub(super) fn import(import: &mut Import<'_>, heap: NodeId) {
    let Some(form) = form(import.tree, heap, &compatibles(import.tree, heap)) else { return };
    import.region(heap, KEYS, |node, page| match form {
        Form::Reserved(name) => reserved(node, name, page),
        Form::HighOrder => high_order(node, page),
        Form::Region(kind) => of_region(node, kind, page),
    });
}

fn form(tree: &Tree, node: NodeId, compatible: &[String]) -> Option<Form> {
    let in_place = region::is_reserved(tree, node);
    let is_high_order = tree.parent(node).is_some_and(|parent| tree.base_name(parent) == HIGH_ORDER);
    compatible.iter().find_map(|word| match word.as_str() {
        "exynos,ion,cma_heap" => Some(Form::Region(HeapType::Dma)),
        "exynos,ion,carveout_heap" => Some(Form::Region(HeapType::Carveout)),
        word if word.strip_prefix("samsung,").unwrap_or(word).starts_with("exynos") => {
            match (word.split_once("-ion,"), word.ends_with("-ion")) {
                (Some((_, name)), _) if in_place => Some(Form::Reserved(Some(name.to_owned()))),
                (None, true) if in_place => Some(Form::Reserved(None)),
                (None, true) if is_high_order => Some(Form::HighOrder),
                _ => None,
            }
        }
        _ => None,
    })
}

fn reserved(node: &mut NodeReader<'_>, name: Option<String>, page: PageSize) -> Option<Draft> {
    let (name, key) = match name {
        Some(name) => (name, "compatible"),
        None => (required_text(node, "ion,heapname")?, "ion,heapname"),
    };
    let reusable = node.flag("ion,reusable");
    let kind = if reusable { HeapType::Dma } else { HeapType::Carveout };
    let mut draft = named(node, &name, kind, key, page)?;
    if let Some(id) = node.get("id", cell) {
        draft.id = Some(HeapId::new(id).map_err(|error| node.fail("id", error.to_string())).ok()?);
    }
    draft.deferred_free = kind == HeapType::Carveout;
    let untouchable = node.flag("ion,untouchable");
    if untouchable && reusable {
        node.fail("ion,untouchable", "ion,untouchable and ion,reusable exclude each other");
    }
    draft.secure = is_secure(node) || untouchable;
    if node.flag("ion,recyclable") {
        draft.unavailable = Some("recyclable memory is lent to the kernel's page cache".to_owned());
    }
    alignment(node, &mut draft);
    take_region(node, &mut draft, node.node, if node.has("reg") { "reg" } else { "size" }, page);
    Some(draft)
}

fn high_order(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = required_text(node, "ion,heapname")?;
    let mut draft = named(node, &name, HeapType::Custom, "ion,heapname", page)?;
    draft.secure = is_secure(node);
    draft.unavailable = Some("pages of high order, which only its board's kernel collects".to_owned());
    alignment(node, &mut draft);
    Some(draft)
}

/// Reads a heap that refers to its memory. The driver names the heap after the memory.
fn of_region(node: &mut NodeReader<'_>, kind: HeapType, page: PageSize) -> Option<Draft> {
    if !node.has("memory-region") {
        node.fail("memory-region", "memory-region is missing");
    }
    let region = node.target("memory-region")?;
    let name = match node.has("ion,heapname") {
        true => required_text(node, "ion,heapname")?,
        false => node.tree.base_name(region).to_owned(),
    };
    let mut draft = named(node, &name, kind, "memory-region", page)?;
    draft.deferred_free = kind == HeapType::Carveout;
    draft.secure = is_secure(node) || node.flag("ion,untouchable");
    alignment(node, &mut draft);
    take_region(node, &mut draft, region, "memory-region", page);
    Some(draft)
}

fn is_secure(node: &mut NodeReader<'_>) -> bool {
    // Both are read, so that a value of either is reported as an error.
    let (new, old) = (node.flag("ion,secure"), node.flag("secure"));
    new || old
}

fn alignment(node: &mut NodeReader<'_>, draft: &mut Draft) {
    if let Some(bytes) = node.get("ion,alignment", number) {
        take_alignment(node, draft, bytes, "ion,alignment");
    }
}
