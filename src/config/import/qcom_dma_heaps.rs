// SPDX-License-Identifier: Apache-2.0
//! Qualcomm: `qcom,dma-heaps` (kernels 5.10 on).

use super::{Import, named, required_text, take_alignment, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cell};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

const KEYS: &[&str] = &[
    "reg",
    "qcom,dma-heap-name",
    "qcom,dma-heap-type",
    "memory-region",
    "qcom,token",
    "qcom,max-align",
    "qcom,uncached-heap",
    "qcom,dynamic-heap",
];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word == "qcom,dma-heaps")
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    for child in import.tree.children(container) {
        import.heap(child, KEYS, heap);
    }
}

fn heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
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

/// Returns the kind of type 1: a carveout in most kernels, contiguous memory in early ones. The
/// region determines which: only contiguous memory is reusable, and only memory set aside is not
/// mapped. If the region has neither property, the kind is unknown.
fn number_one(tree: &Tree, region: Option<NodeId>) -> (HeapType, bool, Option<String>) {
    let has = |key| region.is_some_and(|region| tree.property(region, key).is_some());
    if has("reusable") {
        return (HeapType::Dma, false, None);
    }
    let doubt = "qcom,dma-heap-type 1 means carveout in some kernels and contiguous memory in others, and its \
                 region does not say which";
    (HeapType::Carveout, false, (!has("no-map")).then(|| doubt.to_owned()))
}
