// SPDX-License-Identifier: Apache-2.0
//! Samsung: `samsung,dma-heap-*` (kernels 5.x).

use super::{Import, named, required_text, take_alignment, take_region};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, compatibles, number};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapType, PageSize};

/// Prefix of the `compatible` strings; the rest is the kind.
const PREFIX: &str = "samsung,dma-heap-";

const KEYS: &[&str] = &[
    "dma-heap,name",
    "dma-heap,alignment",
    "dma-heap,uncached",
    "dma-heap,deferred_free",
    "dma-heap,direct_io",
    "dma-heap,secure",
    "dma-heap,dynamic-secure",
    "dma-heap,untouchable",
    "dma-heap,protection_id",
    "dma-heap,video_aligned",
    "memory-region",
];

/// Switches that say that the memory belongs to the TEE.
const SECURE: [&str; 3] = ["dma-heap,secure", "dma-heap,dynamic-secure", "dma-heap,untouchable"];

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    compatible.iter().any(|word| word.starts_with(PREFIX))
}

pub(super) fn import(import: &mut Import<'_>, heap: NodeId) {
    import.heap(heap, KEYS, read_heap);
}

fn read_heap(node: &mut NodeReader<'_>, page: PageSize) -> Option<Draft> {
    let name = required_text(node, "dma-heap,name")?;
    let word = compatibles(node.tree, node.node)
        .iter()
        .find_map(|word| word.strip_prefix(PREFIX).map(str::to_owned))?;
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
    draft.secure = SECURE.map(|key| node.flag(key)).contains(&true);
    if let Some(bytes) = node.get("dma-heap,alignment", number) {
        take_alignment(node, &mut draft, bytes, "dma-heap,alignment");
    }
    if kind == HeapType::Custom {
        draft.unavailable = Some(format!("{PREFIX}{word} is not a known kind of heap"));
    }
    if node.has("memory-region") {
        let region = node.target("memory-region")?;
        take_region(node, &mut draft, region, "memory-region", page);
    } else if kind == HeapType::Dma {
        draft.unavailable = Some("it names no memory region".to_owned());
    }
    if kind == HeapType::Chunk && node.has("dma-heap,alignment") {
        chunks(node, &mut draft);
    }
    Some(draft)
}

/// Sets the size of a chunk to the alignment: the driver computes the alignment as that many pages.
fn chunks(node: &mut NodeReader<'_>, draft: &mut Draft) {
    match draft.size {
        Some(size) if !size.is_multiple_of(draft.alignment) => {
            let chunk = draft.alignment;
            let message = format!(
                "dma-heap,alignment makes chunks of {chunk:#x} bytes, which do not divide the size {size:#x}"
            );
            node.fail("dma-heap,alignment", message);
        }
        _ => draft.chunk_size = Some(draft.alignment),
    }
}
