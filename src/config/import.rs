// SPDX-License-Identifier: Apache-2.0
//! Vendor bindings: translates the heap descriptions of shipping kernels.
//!
//! Every heap that such a tree describes appears in the result, with the reason if it cannot be
//! served: users see what a board has even on a machine that lacks it. A key that a binding does
//! not know is a warning, since vendors add keys freely. A container of heaps that no binding reads
//! is named (`unread`).
//!
//! To support another vendor: if its heaps are the children of one node, add a row to
//! `children::VENDORS`, else a file and a row in [`BINDINGS`]. Then add a tree to
//! `tests/dts/vendors` and its heaps to `tests/boards.rs`.

mod amlogic;
mod children;
mod draft;
mod hisilicon;
mod linux;
mod nxp;
mod qcom;
mod qcom_dma_heaps;
mod reserved_memory;
mod rockchip;
mod samsung;
mod samsung_dma_heaps;
mod tegra;
mod trusted;
mod unread;

use std::collections::BTreeSet;

use self::draft::{
    named, required_text, take_alignment, take_cells, take_default_pool, take_place, take_region, take_size,
    vendors_own,
};
use super::diagnostic::{Report, Severity};
use super::draft::Draft;
use super::property::{NodeReader, compatibles, switched_off};
use super::region;
use super::tree::{NodeId, Tree};
use crate::units::{HeapType, MAX_HEAPS, PageSize};

/// One family of bindings.
struct Binding {
    /// Returns whether a node with these `compatible` strings is a container (or a single heap) of
    /// this family.
    claims: fn(&Tree, NodeId, &[String]) -> bool,
    /// Reads the node.
    import: fn(&mut Import<'_>, NodeId),
    /// Whether the pools beside it that it does not use belong to devices. Otherwise they are heaps
    /// too.
    hides_pools: bool,
}

impl Binding {
    const fn new(claims: fn(&Tree, NodeId, &[String]) -> bool, import: fn(&mut Import<'_>, NodeId)) -> Self {
        Self { claims, import, hides_pools: true }
    }
}

const BINDINGS: &[Binding] = &[
    Binding { hides_pools: false, ..Binding::new(trusted::claims, trusted::import) },
    Binding::new(qcom::claims, qcom::import),
    Binding::new(qcom_dma_heaps::claims, qcom_dma_heaps::import),
    Binding::new(hisilicon::claims_hi6220, hisilicon::import_hi6220),
    Binding::new(hisilicon::claims_kirin, hisilicon::import_kirin),
    Binding::new(samsung::claims, samsung::import),
    Binding::new(samsung_dma_heaps::claims, samsung_dma_heaps::import),
    Binding::new(rockchip::claims, rockchip::import),
    Binding::new(amlogic::claims, amlogic::import),
    Binding { hides_pools: false, ..Binding::new(amlogic::claims_codec, amlogic::import_codec) },
    Binding { hides_pools: false, ..Binding::new(tegra::claims, tegra::import) },
    Binding::new(nxp::claims, nxp::import),
    Binding::new(children::claims, children::import),
    Binding::new(linux::claims, linux::import),
    Binding::new(reserved_memory::claims, reserved_memory::import_heap),
];

/// A node that describes heaps.
struct Container {
    node: NodeId,
    /// The binding that reads it; `None` if no binding does.
    binding: Option<&'static Binding>,
}

/// Returns the nodes in which vendors describe heaps, parents before children.
fn containers(tree: &Tree) -> Vec<Container> {
    let mut found = Vec::new();
    // Each node with whether it is inside a container: similar nodes there are parts of the
    // container.
    let mut ahead = vec![(tree.root(), false)];
    while let Some((node, inside)) = ahead.pop() {
        let words = compatibles(tree, node);
        let binding = BINDINGS.iter().find(|binding| (binding.claims)(tree, node, &words));
        let is_container = binding.is_some() || (!inside && unread::is_container(tree, node, &words));
        if is_container {
            found.push(Container { node, binding });
        }
        let children: Vec<NodeId> = tree.children(node).collect();
        ahead.extend(children.into_iter().rev().map(|child| (child, inside || is_container)));
    }
    // If a binding reads the children one by one, their parent is no unread container.
    let read = found.iter().filter(|container| container.binding.is_some());
    let parents: BTreeSet<NodeId> = read.filter_map(|container| tree.parent(container.node)).collect();
    found.retain(|container| container.binding.is_some() || !parents.contains(&container.node));
    found
}

/// Returns the nodes that [`read`] would read.
pub(super) fn readable(tree: &Tree) -> Vec<NodeId> {
    let readable = |container: &Container| container.binding.is_some();
    containers(tree).into_iter().filter(readable).map(|container| container.node).collect()
}

/// Result of an import.
pub(super) struct Imported {
    /// The heaps.
    pub(super) drafts: Vec<Draft>,
    /// Number of heap nodes that were examined, valid or not.
    pub(super) described: usize,
    /// The containers that were found, read or not, as words for a message.
    pub(super) containers: Vec<String>,
}

/// Reads every vendor heap. Plain contiguous-memory pools are heaps only if no enabled container
/// describes heaps: beside one, the pools that it does not use belong to devices.
pub(super) fn read(tree: &Tree, page: PageSize, report: &mut Report) -> Imported {
    let default_pool = region::default_cma_pool(tree);
    let mut import = Import {
        tree,
        page,
        report,
        default_pool,
        region_names: None,
        drafts: Vec::new(),
        described: 0,
        hides_pools: false,
    };
    let containers = containers(tree);
    for container in &containers {
        import.container(container);
    }
    import.check_reserved_memory();
    if !import.hides_pools {
        let drafts = import.drafts.iter();
        let taken = drafts.filter(|draft| draft.secure || draft.region == Some(draft.node));
        let taken: BTreeSet<NodeId> = taken.filter_map(|draft| draft.region).collect();
        reserved_memory::import_pools(&mut import, &taken);
    }
    let named =
        |container: &Container| format!("{} ({})", tree.path(container.node), word(tree, container.node));
    Imported {
        drafts: import.drafts,
        described: import.described,
        containers: containers.iter().map(named).collect(),
    }
}

/// Returns the container's name for a message: its first `compatible` string, or its node name.
fn word(tree: &Tree, container: NodeId) -> String {
    let first = compatibles(tree, container).into_iter().next();
    first.unwrap_or_else(|| tree.name(container).to_owned()).chars().take(64).collect()
}

/// An import in progress.
struct Import<'t> {
    tree: &'t Tree,
    page: PageSize,
    report: &'t mut Report,
    /// The pool that devices without one of their own share.
    default_pool: Option<NodeId>,
    /// Reserved memory by the names of Kirin's heaps, after the first use.
    region_names: Option<hisilicon::RegionNames>,
    drafts: Vec<Draft>,
    /// Number of heap nodes so far, valid or not.
    described: usize,
    /// Whether plain pools belong to devices, and are no heaps.
    hides_pools: bool,
}

/// Keys of every region of reserved memory.
const REGION_KEYS: &[&str] = &["reg", "size", "alignment", "alloc-ranges", "no-map", "reusable"];
/// Most heap nodes that are examined: far more than there are ids, and few enough to be read fast.
const MAX_DESCRIBED: usize = 4 * MAX_HEAPS;

impl<'t> Import<'t> {
    /// Reads one container, or reports why none of its heaps appears.
    fn container(&mut self, container: &Container) {
        let node = container.node;
        let word = word(self.tree, node);
        let off = switched_off(self.tree, node);
        let Some(binding) = container.binding else {
            let off = off.map_or_else(String::new, |why| format!("; {why}"));
            let message = format!("`{word}` is a heap container that this version does not read{off}");
            self.pass_over(Severity::Warning, node, message);
            return;
        };
        if self.described > MAX_DESCRIBED {
            return;
        }
        let before = self.described;
        (binding.import)(self, node);
        let heaps = self.described - before;
        let is_region = region::is_reserved(self.tree, node);
        match off {
            Some(why) if !is_region => {
                let heaps = format!("{heaps} heap{}", if heaps == 1 { "" } else { "s" });
                let message =
                    format!("{why}, so the kernel makes no heap of this `{word}`, which describes {heaps}");
                self.pass_over(Severity::Note, node, message);
            }
            None if heaps == 0 => {
                self.pass_over(
                    Severity::Warning,
                    node,
                    format!("`{word}` is a heap container, but it is empty"),
                );
            }
            None if binding.hides_pools => self.hides_pools = true,
            _ => {}
        }
    }

    /// Reads one heap node with `describe`. Warns of keys that are not in `known`. Imports nothing
    /// if `describe` recorded an error.
    fn heap(
        &mut self,
        id: NodeId,
        known: &[&str],
        describe: impl FnOnce(&mut NodeReader<'t>, PageSize) -> Option<Draft>,
    ) {
        self.heap_of_any_keys(id, |node, page| {
            for key in node.unknown(known) {
                let shown: String = key.chars().take(64).collect();
                node.warn(key, format!("property {shown} is not known and has no effect"));
            }
            describe(node, page)
        });
    }

    /// Reads one heap node that is a region of reserved memory; `own` lists its keys beyond those
    /// of every region.
    fn region(
        &mut self,
        id: NodeId,
        own: &[&str],
        describe: impl FnOnce(&mut NodeReader<'t>, PageSize) -> Option<Draft>,
    ) {
        self.heap(id, &[REGION_KEYS, own].concat(), describe);
    }

    /// Reads one heap node with `describe`. Imports nothing if `describe` recorded an error.
    fn heap_of_any_keys(
        &mut self,
        id: NodeId,
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
        let draft = describe(&mut node, self.page);
        if node.finish(self.report)
            && let Some(draft) = draft
        {
            self.drafts.push(self.checked(draft));
        }
    }

    /// Reports that a node was skipped.
    fn pass_over(&mut self, severity: Severity, node: NodeId, message: impl Into<String>) {
        self.report.add(severity, self.tree.path(node), self.tree.position(node), message);
    }

    /// Records every reason why a heap cannot be served, the most permanent first. Adds the names
    /// that its kernel may have for it.
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
                reasons.push("its binding does not give the chunk size".to_owned());
            }
            None => {}
        }
        draft.unavailable = (!reasons.is_empty()).then(|| reasons.join("; "));
        if matches!(draft.kind, HeapType::System | HeapType::Dma) {
            let own = std::iter::once(&draft.name).chain(&draft.aliases);
            let names: Vec<String> = own.map(ToString::to_string).collect();
            let of_region = std::mem::take(&mut draft.kernel_names);
            names.iter().for_each(|name| draft.known_as(name));
            of_region.iter().for_each(|name| draft.known_as(name.as_str()));
        }
        draft
    }

    /// Warns of cell counts with which Linux ignores all reserved memory.
    fn check_reserved_memory(&mut self) {
        let Some(parent) = region::reserved_memory(self.tree) else { return };
        for (key, own, root) in region::unlike_root(self.tree, parent) {
            let message =
                format!("{key} is {own}, but that of / is {root}: Linux ignores all reserved memory then");
            self.pass_over(Severity::Warning, parent, message);
        }
    }
}
