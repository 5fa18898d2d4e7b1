// SPDX-License-Identifier: Apache-2.0
//! Samsung: reserved memory with `ion,heapname` (Exynos, 4.14) and `samsung,dma-heap-*` (5.x).

use super::{Import, named, required_text, take_alignment, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, compatibles, number};
use crate::config::region;
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

const ION_KEYS: &[&str] = &[
    "reg",
    "size",
    "alignment",
    "alloc-ranges",
    "no-map",
    "reusable",
    "ion,heapname",
    "ion,alignment",
    "ion,reusable",
    "ion,recyclable",
    "ion,secure",
    "ion,untouchable",
    "ion,protection_id",
];

pub(super) fn is_ion(tree: &Tree, node: NodeId) -> bool {
    region::is_reserved(tree, node)
        && compatibles(tree, node).iter().any(|word| word.starts_with("exynos") && word.ends_with("-ion"))
}

pub(super) fn import_ion(import: &mut Import<'_>, region: NodeId) {
    import.heap(region, ION_KEYS, |node, page| {
        let name = required_text(node, "ion,heapname")?;
        let reusable = node.flag("ion,reusable");
        let kind = if reusable { HeapType::Dma } else { HeapType::Carveout };
        let mut draft = named(node, &name, kind, "ion,heapname", page)?;
        draft.deferred_free = kind == HeapType::Carveout;
        let untouchable = node.flag("ion,untouchable");
        if untouchable && reusable {
            node.fail("ion,untouchable", "ion,untouchable and ion,reusable exclude each other");
        }
        draft.secure = node.flag("ion,secure") || untouchable;
        if node.flag("ion,recyclable") {
            draft.unavailable = Some("recyclable memory is lent to the kernel's page cache".to_owned());
        }
        alignment(node, &mut draft, "ion,alignment");
        take_region(node, &mut draft, region, if node.has("reg") { "reg" } else { "size" }, page);
        Some(draft)
    });
}

const DMA_HEAP: &str = "samsung,dma-heap-";

const DMA_KEYS: &[&str] = &[
    "dma-heap,name",
    "dma-heap,alignment",
    "dma-heap,uncached",
    "dma-heap,deferred_free",
    "dma-heap,direct_io",
    "dma-heap,secure",
    "dma-heap,protection_id",
    "dma-heap,video_aligned",
    "memory-region",
];

pub(super) fn is_dma_heap(tree: &Tree, node: NodeId) -> bool {
    compatibles(tree, node).iter().any(|word| word.starts_with(DMA_HEAP))
}

pub(super) fn import_dma_heap(import: &mut Import<'_>, heap: NodeId) {
    import.heap(heap, DMA_KEYS, dma_heap);
}

fn dma_heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = required_text(node, "dma-heap,name")?;
    let word = compatibles(node.tree, node.node)
        .iter()
        .find_map(|word| word.strip_prefix(DMA_HEAP).map(str::to_owned))?;
    let kind = match word.as_str() {
        "system" => HeapType::System,
        "cma" => HeapType::Dma,
        "carveout" => HeapType::Carveout,
        "chunk" => HeapType::Chunk,
        _ => HeapType::Custom,
    };
    let mut draft = named(node, &name, kind, "dma-heap,name", page)?;
    draft.cached = !node.flag("dma-heap,uncached");
    draft.deferred_free = node.flag("dma-heap,deferred_free");
    draft.secure = node.flag("dma-heap,secure");
    alignment(node, &mut draft, "dma-heap,alignment");
    if kind == HeapType::Custom {
        draft.unavailable = Some(format!("{DMA_HEAP}{word} is not a known kind of heap"));
    }
    if node.has("memory-region") {
        let region = node.target("memory-region")?;
        take_region(node, &mut draft, region, "memory-region", page);
    } else if kind == HeapType::Dma {
        draft.unavailable = Some("it names no memory region".to_owned());
    }
    Some(draft)
}

fn alignment(node: &mut NodeReader<'_>, draft: &mut Draft, key: &str) {
    if let Some(bytes) = node.get(key, number) {
        take_alignment(node, draft, bytes, key);
    }
}
