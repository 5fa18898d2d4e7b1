// SPDX-License-Identifier: Apache-2.0
//! Reads Anion's own heap nodes: the children of `compatible = "anion,heaps-v1"`. An unknown key is
//! an error, and a heap with an error is skipped.

use super::accounts::{ALLOWED, Accounts, Named};
use super::device;
use super::diagnostic::{Report, Severity};
use super::draft::Draft;
use super::property::{NodeReader, UNIVERSAL, cell, cells, number, text, texts};
use super::region;
use super::steps;
use super::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapName, HeapType, PageSize};
use anion_layout::LARGEST_STRIDE_ALIGN;

/// The `compatible` string of the container.
pub(super) const COMPATIBLE: &str = "anion,heaps-v1";
/// The container's children that are no heaps.
pub(super) const CLIENTS: &str = "clients";
pub(super) const GRAPHICS: &str = "graphics";
/// Largest page order: 1 GiB with pages of 4 KiB.
const MAX_ORDER: u32 = 18;

/// Most unknown properties of one node that are reported: each is compared with all known ones.
const MAX_UNKNOWN: usize = 32;

/// Most characters in which a misspelt property may differ from the suggested one.
const MAX_DISTANCE: usize = 3;

pub(super) const KEYS: &[&str] = &[
    "type",
    "heap-id",
    "reg",
    "heap-name",
    "aliases",
    "size",
    "memory-region",
    "alignment",
    "chunk-size",
    "stride-align",
    "cached",
    "uncached",
    "deferred-free",
    "immediate-free",
    "pool-orders",
    "pool-limit",
    "device",
    "devices",
    "secure",
    "recycle",
    "client-seals",
    "allow-uids",
    "allow-users",
    "allow-groups",
    "share-across-domains",
];

/// Reads the heaps of `container`.
pub(super) fn read(
    tree: &Tree,
    container: NodeId,
    page: PageSize,
    accounts: &Accounts<'_>,
    report: &mut Report,
) -> Vec<Draft> {
    let mut node = NodeReader::new(tree, container);
    refuse_unknown(&mut node, &[]);
    node.finish(report);
    let heaps = tree.children(container).filter(|child| ![CLIENTS, GRAPHICS].contains(&tree.name(*child)));
    heaps.filter_map(|heap| one(tree, heap, page, accounts, report)).collect()
}

/// Records every key that neither `known` nor the specification contains, with the most similar
/// known key.
pub(super) fn refuse_unknown(node: &mut NodeReader<'_>, known: &[&str]) {
    let unknown = node.unknown(known);
    if let Some(next) = unknown.get(MAX_UNKNOWN) {
        node.fail(next, format!("{} more properties are unknown", unknown.len() - MAX_UNKNOWN));
    }
    for key in unknown.into_iter().take(MAX_UNKNOWN) {
        let candidates = known.iter().chain(UNIVERSAL);
        let distance = |candidate: &str| {
            steps::take(key.len() * candidate.len());
            strsim::damerau_levenshtein(key, candidate)
        };
        // A longer key cannot be a misspelling of a known one.
        let nearest = candidates
            .filter(|candidate| key.len() <= candidate.len() + MAX_DISTANCE)
            .map(|candidate| (distance(candidate), candidate))
            .min_by_key(|(distance, _)| *distance);
        let near_enough = nearest.filter(|(distance, _)| *distance <= MAX_DISTANCE);
        let hint = near_enough.map_or_else(String::new, |(_, near)| format!("; did you mean {near}?"));
        let shown: String = key.chars().take(64).collect();
        node.fail(key, format!("unknown property {shown}{hint}"));
    }
}

/// Returns whether the node is enabled. Records `disabled` and similar words as notes, and an
/// unknown word as an error.
pub(super) fn is_on(node: &mut NodeReader<'_>, report: &mut Report) -> bool {
    let Some(status) = node.get("status", text) else { return true };
    match status.as_str() {
        "okay" | "ok" => true,
        "disabled" | "reserved" | "fail" => {
            let position = node.tree.property(node.node, "status").and_then(|property| property.position);
            let message = format!("status is {status:?}, so the node is left out");
            report.add(Severity::Note, node.tree.path(node.node), position, message);
            false
        }
        _ => {
            node.fail(
                "status",
                format!("status is {status:?}, but it must be okay, disabled, reserved or fail"),
            );
            true
        }
    }
}

fn one(
    tree: &Tree,
    id: NodeId,
    page: PageSize,
    accounts: &Accounts<'_>,
    report: &mut Report,
) -> Option<Draft> {
    let mut node = NodeReader::new(tree, id);
    if !is_on(&mut node, report) {
        return None;
    }
    refuse_unknown(&mut node, KEYS);
    if let Some(child) = tree.children(id).next() {
        node.fail("", format!("a heap has no child nodes, but there is {}", tree.name(child)));
    }
    let draft = describe(&mut node, page, accounts);
    if node.finish(report) { draft } else { None }
}

fn describe(node: &mut NodeReader<'_>, page: PageSize, accounts: &Accounts<'_>) -> Option<Draft> {
    let name = heap_name(node);
    let kind = heap_type(node);
    let (name, kind) = (name?, kind?);
    let mut heap = Draft::new(node.node, name, kind, page);
    heap.id = heap_id(node);
    heap.aliases = aliases(node);
    heap.size = size(node, &mut heap, page);
    if let Some(alignment) = node.get("alignment", number) {
        heap.alignment = alignment;
        if !alignment.is_power_of_two() || alignment < page.bytes() {
            let rule = format!("a power of two of at least the page size {}", page.bytes());
            node.fail("alignment", format!("alignment is {alignment:#x}, but it must be {rule}"));
        }
    }
    heap.chunk_size = chunk_size(node, kind, heap.size, page);
    heap.stride_align = stride_align(node).unwrap_or(heap.stride_align);
    let (cached, uncached) = (node.flag("cached"), node.flag("uncached"));
    if cached && uncached {
        node.fail("uncached", "cached and uncached exclude each other");
    }
    heap.cached = !uncached;
    heap.deferred_free = deferred_free(node, heap.deferred_free);
    if let Some(orders) = pool_orders(node, kind) {
        heap.pool_orders = orders;
    }
    heap.pool_limit = node.get("pool-limit", number);
    heap.client_seals = node.flag("client-seals");
    // An empty list, which would refuse every client, is an error: `status` disables a heap more
    // clearly.
    heap.allow_uids = accounts.named(node, &ALLOWED).map(Named::all);
    heap.shared = shared(node);
    device::describe(node, &mut heap);
    Some(heap)
}

/// Reads whether frees are deferred; `default`, that of the kind, applies unless the node has the
/// key.
fn deferred_free(node: &mut NodeReader<'_>, default: bool) -> bool {
    match (node.flag("deferred-free"), node.flag("immediate-free")) {
        (true, true) => {
            node.fail("immediate-free", "deferred-free and immediate-free exclude each other");
            default
        }
        (true, false) => true,
        (false, true) => false,
        (false, false) => default,
    }
}

/// Reads the reason why the heap's pooled memory may move between trust domains. It is logged, so
/// it must not be empty.
fn shared(node: &mut NodeReader<'_>) -> Option<String> {
    let reason = node.get("share-across-domains", text)?;
    if reason.trim().is_empty() {
        node.fail(
            "share-across-domains",
            format!("share-across-domains is {reason:?}, but it must be the reason why that is safe"),
        );
    }
    Some(reason)
}

fn heap_name(node: &mut NodeReader<'_>) -> Option<HeapName> {
    let name = match node.get("heap-name", text) {
        Some(name) => name,
        None if node.has("heap-name") => return None,
        None => node.tree.base_name(node.node).to_owned(),
    };
    HeapName::new(&name).map_err(|error| node.fail("heap-name", error.to_string())).ok()
}

fn heap_type(node: &mut NodeReader<'_>) -> Option<HeapType> {
    const TYPES: [HeapType; 6] = [
        HeapType::System,
        HeapType::SystemContig,
        HeapType::Carveout,
        HeapType::Chunk,
        HeapType::Dma,
        HeapType::Custom,
    ];
    let names = || TYPES.map(HeapType::name).join(", ");
    if !node.has("type") {
        node.fail("type", format!("type is missing: one of {}", names()));
    }
    let word = node.get("type", text)?;
    let found = TYPES.into_iter().find(|kind| kind.name() == word);
    if found.is_none() {
        node.fail("type", format!("type is {word:?}, but it must be one of {}", names()));
    }
    found
}

fn heap_id(node: &mut NodeReader<'_>) -> Option<HeapId> {
    let (id, reg) = (node.get("heap-id", cell), node.get("reg", cell));
    if let (Some(id), Some(reg)) = (id, reg)
        && id != reg
    {
        node.fail("reg", format!("reg is {reg}, but heap-id is {id}: give one of them"));
    }
    let key = if id.is_some() { "heap-id" } else { "reg" };
    HeapId::new(id.or(reg)?).map_err(|error| node.fail(key, error.to_string())).ok()
}

fn aliases(node: &mut NodeReader<'_>) -> Vec<HeapName> {
    let words = node.get("aliases", texts).unwrap_or_default();
    let checked = words.iter().map(|word| HeapName::new(word));
    checked.filter_map(|name| name.map_err(|error| node.fail("aliases", error.to_string())).ok()).collect()
}

/// Reads the size of the heap, or that of its region.
fn size(node: &mut NodeReader<'_>, heap: &mut Draft, page: PageSize) -> Option<u64> {
    let kind = heap.kind;
    let has_region = matches!(kind, HeapType::Carveout | HeapType::Chunk | HeapType::Dma);
    let (key, bytes) = match (node.has("size"), node.has("memory-region")) {
        (true, true) => {
            node.fail("memory-region", "size and memory-region exclude each other: the region has a size");
            return None;
        }
        (false, false) if has_region => {
            node.fail("type", format!("a {} heap needs a size or a memory-region", kind.name()));
            return None;
        }
        (false, false) => return None,
        (false, true) if !has_region => {
            node.fail("memory-region", format!("a {} heap takes no memory-region", kind.name()));
            return None;
        }
        (true, false) => ("size", node.get("size", number)?),
        (false, true) => ("memory-region", region_bytes(node, heap)?),
    };
    if let Err(reason) = check_size(bytes, page) {
        node.fail(key, reason.to_string());
        return None;
    }
    Some(bytes)
}

/// Sets the region and base of the heap. Returns the region's size.
fn region_bytes(node: &mut NodeReader<'_>, heap: &mut Draft) -> Option<u64> {
    let target = node.target("memory-region")?;
    if !region::is_reserved(node.tree, target) {
        let path = node.tree.path(target);
        node.fail("memory-region", format!("memory-region is {path}, but it must be in /reserved-memory"));
        return None;
    }
    if let Some(why) = region::switched_off_region(node.tree, target) {
        node.fail("memory-region", format!("memory-region cannot be used, {why}"));
        return None;
    }
    heap.set_region(node.tree, target);
    let extent = region::extent(node.tree, target);
    let extent = extent.map_err(|reason| node.fail("memory-region", reason.to_string())).ok()?;
    heap.base = extent.base;
    Some(extent.bytes)
}

/// An invalid size of a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeapSizeError {
    /// 0, or more than the interface can express.
    #[error("size is {0:#x}, but it must be 1 to {max:#x}", max = i64::MAX)]
    Range(u64),
    /// No multiple of the page size.
    #[error("size is {bytes:#x}, but it must be a multiple of the page size {page}")]
    NotPages { bytes: u64, page: u64 },
}

/// Checks the size of a heap.
///
/// # Errors
/// If it is 0, more than `i64::MAX`, or no multiple of the page size.
pub(super) fn check_size(bytes: u64, page: PageSize) -> Result<(), HeapSizeError> {
    if bytes == 0 || i64::try_from(bytes).is_err() {
        return Err(HeapSizeError::Range(bytes));
    }
    if !page.divides(bytes) {
        return Err(HeapSizeError::NotPages { bytes, page: page.bytes() });
    }
    Ok(())
}

fn chunk_size(node: &mut NodeReader<'_>, kind: HeapType, size: Option<u64>, page: PageSize) -> Option<u64> {
    match (kind, node.has("chunk-size")) {
        (HeapType::Chunk, false) => node.fail("type", "a chunk heap needs a chunk-size"),
        (HeapType::Chunk, true) | (_, false) => {}
        (_, true) => node.fail("chunk-size", format!("a {} heap takes no chunk-size", kind.name())),
    }
    let chunk = node.get("chunk-size", number)?;
    if !chunk.is_power_of_two() || !page.divides(chunk) {
        let rule = format!("a power of two and a multiple of the page size {}", page.bytes());
        node.fail("chunk-size", format!("chunk-size is {chunk:#x}, but it must be {rule}"));
    } else if let Some(size) = size.filter(|size| !size.is_multiple_of(chunk)) {
        node.fail("chunk-size", format!("chunk-size is {chunk:#x}, but it must divide the size {size:#x}"));
    }
    Some(chunk)
}

fn stride_align(node: &mut NodeReader<'_>) -> Option<u32> {
    let bytes = node.get("stride-align", cell)?;
    if !bytes.is_power_of_two() || bytes > LARGEST_STRIDE_ALIGN {
        let rule = format!("a power of two up to {LARGEST_STRIDE_ALIGN}");
        node.fail("stride-align", format!("stride-align is {bytes}, but it must be {rule}"));
    }
    Some(bytes)
}

fn pool_orders(node: &mut NodeReader<'_>, kind: HeapType) -> Option<Vec<u32>> {
    let orders = node.get("pool-orders", cells)?;
    if !matches!(kind, HeapType::System | HeapType::Custom) {
        node.fail("pool-orders", format!("a {} heap takes no pool-orders", kind.name()));
    }
    if let Some(order) = orders.iter().find(|order| **order > MAX_ORDER) {
        node.fail("pool-orders", format!("pool-orders has {order}, but an order is at most {MAX_ORDER}"));
    }
    if !orders.is_sorted_by(|a, b| a > b) {
        node.fail(
            "pool-orders",
            format!("pool-orders are {orders:?}, but each must be below the one before"),
        );
    }
    Some(orders)
}
