// SPDX-License-Identifier: Apache-2.0
//! Vendor bindings: heap descriptions of shipping kernels, translated into Anion's terms.
//!
//! Every heap that such a tree describes appears in the result, with its reason if it cannot be served: what a
//! board has is worth seeing even where this machine has not got it. A key that a binding does not know is a
//! warning, since vendors add them freely.

mod hisilicon;
mod linux;
mod qcom;
mod reserved_memory;
mod rockchip;
mod samsung;

use super::diagnostic::{Report, Severity};
use super::draft::Draft;
use super::heaps::check_size;
use super::property::{NodeReader, switched_off, text};
use super::region;
use super::tree::{NodeId, Tree};
use crate::units::{HeapName, HeapType, MAX_HEAPS, PageSize};

/// One family of bindings.
struct Binding {
    /// Whether a node is a container (or a heap of its own) of this family.
    claims: fn(&Tree, NodeId) -> bool,
    /// Reads it.
    import: fn(&mut Import<'_>, NodeId),
}

const BINDINGS: &[Binding] = &[
    Binding { claims: qcom::is_ion, import: qcom::import_ion },
    Binding { claims: qcom::is_dma_heaps, import: qcom::import_dma_heaps },
    Binding { claims: hisilicon::is_hi6220, import: hisilicon::import_hi6220 },
    Binding { claims: hisilicon::is_kirin, import: hisilicon::import_kirin },
    Binding { claims: samsung::is_ion, import: samsung::import_ion },
    Binding { claims: samsung::is_dma_heap, import: samsung::import_dma_heap },
    Binding { claims: rockchip::is_ion, import: rockchip::import_ion },
    Binding { claims: linux::is_ion, import: linux::import_ion },
    Binding { claims: reserved_memory::is_heap, import: reserved_memory::import_heap },
];

/// Returns the nodes that vendor bindings describe heaps with.
pub(super) fn containers(tree: &Tree) -> Vec<NodeId> {
    tree.walk()
        .into_iter()
        .filter(|node| BINDINGS.iter().any(|binding| (binding.claims)(tree, *node)))
        .collect()
}

/// Reads every vendor heap. Plain contiguous-memory pools count only where nothing else describes heaps: next
/// to a heap container, the pools that it does not take belong to devices.
pub(super) fn read(tree: &Tree, page: PageSize, report: &mut Report) -> Vec<Draft> {
    let mut import = Import { tree, page, report, drafts: Vec::new(), described: 0 };
    let containers = containers(tree);
    for container in &containers {
        if let Some(binding) = BINDINGS.iter().find(|binding| (binding.claims)(tree, *container)) {
            (binding.import)(&mut import, *container);
        }
    }
    if containers.is_empty() {
        reserved_memory::import_pools(&mut import);
    }
    import.drafts
}

/// An import in progress.
struct Import<'t> {
    tree: &'t Tree,
    page: PageSize,
    report: &'t mut Report,
    drafts: Vec<Draft>,
    /// Heap nodes so far, good and bad.
    described: usize,
}

/// Most heap nodes that are looked at. Far above the ids there are, and far below what would take long.
const MAX_DESCRIBED: usize = 4 * MAX_HEAPS;

impl<'t> Import<'t> {
    /// Reads one heap node with `describe`, warning of keys that are not in `known`. Nothing is imported if
    /// `describe` found an error.
    fn heap(
        &mut self,
        id: NodeId,
        known: &[&str],
        describe: impl FnOnce(&mut NodeReader<'t>, PageSize) -> Option<Draft>,
    ) {
        self.described += 1;
        if self.described > MAX_DESCRIBED {
            if self.described == MAX_DESCRIBED + 1 {
                let message = format!(
                    "more than {MAX_DESCRIBED} heaps are described: this and all that follow are left out"
                );
                self.pass_over(Severity::Error, id, message);
            }
            return;
        }
        let mut node = NodeReader::new(self.tree, id);
        for key in node.unknown(known) {
            let shown: String = key.chars().take(64).collect();
            node.warn(key, format!("property {shown} is not known and has no effect"));
        }
        let draft = describe(&mut node, self.page);
        if node.finish(self.report)
            && let Some(draft) = draft
        {
            self.drafts.push(self.checked(draft));
        }
    }

    /// Says that a node was passed over.
    fn pass_over(&mut self, severity: Severity, node: NodeId, message: impl Into<String>) {
        self.report.add(severity, self.tree.path(node), self.tree.position(node), message);
    }

    /// Records why a heap is there but cannot be served: every reason that holds, the most lasting
    /// first.
    fn checked(&self, mut draft: Draft) -> Draft {
        let mut reasons = Vec::new();
        if draft.secure {
            reasons.push("secure memory, which only its board's kernel can serve".to_owned());
        }
        reasons.extend(switched_off(self.tree, draft.node));
        reasons.extend(self.tree.parent(draft.node).and_then(|parent| {
            switched_off(self.tree, parent).map(|why| format!("{}: {why}", self.tree.path(parent)))
        }));
        let has_size = draft.size.is_some() || !matches!(draft.kind, HeapType::Carveout | HeapType::Chunk);
        match draft.unavailable.take() {
            Some(reason) => reasons.push(reason),
            None if !has_size => reasons.push("its size is not known".to_owned()),
            None if draft.kind == HeapType::Chunk && draft.chunk_size.is_none() => {
                reasons.push("its binding does not tell the chunk size".to_owned());
            }
            None => {}
        }
        draft.unavailable = (!reasons.is_empty()).then(|| reasons.join("; "));
        draft
    }
}

/// Sets the size to the region's. One that no heap can have is an error at `key`, a missing one
/// makes the heap unavailable.
fn take_region(node: &mut NodeReader<'_>, draft: &mut Draft, region: NodeId, key: &str, page: PageSize) {
    match region::bytes(node.tree, region) {
        Ok(bytes) => take_size(node, draft, bytes, key, page),
        Err(reason) => draft.unavailable = Some(reason.to_string()),
    }
    if let Some(why) = region::switched_off_region(node.tree, region) {
        draft.unavailable = Some(why);
    }
}

/// Sets the size, or records why it cannot be one.
fn take_size(node: &mut NodeReader<'_>, draft: &mut Draft, bytes: u64, key: &str, page: PageSize) {
    match check_size(bytes, page) {
        Ok(()) => draft.size = Some(bytes),
        Err(reason) => node.fail(key, reason.to_string()),
    }
}

/// Sets the alignment to at least `bytes`: up to the page and the next power of two, as the kernels do.
fn take_alignment(node: &mut NodeReader<'_>, draft: &mut Draft, bytes: u64, key: &str) {
    match bytes.max(draft.alignment).checked_next_power_of_two() {
        Some(alignment) => draft.alignment = alignment,
        None => node.fail(key, format!("{key} is {bytes:#x}, but it must be at most {:#x}", 1_u64 << 63)),
    }
}

/// Returns a heap of this name. A name that no heap can have is recorded at `key`.
fn named(node: &mut NodeReader<'_>, name: &str, kind: HeapType, key: &str, page: PageSize) -> Option<Draft> {
    let name = HeapName::new(name).map_err(|error| node.fail(key, error.to_string())).ok()?;
    Some(Draft::new(node.node, name, kind, page))
}

/// Reads a required string.
fn required_text(node: &mut NodeReader<'_>, key: &str) -> Option<String> {
    if !node.has(key) {
        node.fail(key, format!("{key} is missing"));
    }
    node.get(key, text)
}
