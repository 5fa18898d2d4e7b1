// SPDX-License-Identifier: Apache-2.0
//! Functions that the readers of several bindings share.

use crate::config::draft::Draft;
use crate::config::heaps::check_size;
use crate::config::property::{NodeReader, cells, text};
use crate::config::region;
use crate::config::tree::NodeId;
use crate::units::{HeapName, HeapType, PageSize};

/// Sets base and size from the region. An invalid region is an error at `key`; a region that is
/// disabled or has no size makes the heap unavailable.
pub(super) fn take_region(
    node: &mut NodeReader<'_>,
    draft: &mut Draft,
    region: NodeId,
    key: &str,
    page: PageSize,
) {
    draft.set_region(node.tree, region);
    let is_own = region == node.node;
    match region::extent(node.tree, region) {
        Ok(extent) if extent.bytes == 0 => {
            let whose = if is_own { String::new() } else { format!("region {}: ", node.tree.path(region)) };
            draft.unavailable = Some(format!("{whose}its size is 0, which switches it off"));
        }
        Ok(extent) => {
            draft.base = extent.base;
            take_size(node, draft, extent.bytes, key, page);
        }
        Err(reason) if reason.is_silence() => draft.unavailable = Some(reason.to_string()),
        Err(reason) if is_own => node.fail(key, reason.fault()),
        Err(reason) => node.fail(key, reason.to_string()),
    }
    if let Some(why) = region::switched_off_region(node.tree, region) {
        draft.unavailable = Some(why);
    }
}

/// Sets the pool that devices without one of their own share, for a heap of contiguous memory that
/// names no region. Without such a pool the heap is unavailable.
pub(super) fn take_default_pool(
    node: &mut NodeReader<'_>,
    draft: &mut Draft,
    pool: Option<NodeId>,
    key: &str,
    page: PageSize,
) {
    match pool {
        Some(pool) => take_region(node, draft, pool, key, page),
        None => draft.unavailable = Some("it names no memory region and there is no default pool".to_owned()),
    }
}

/// Sets the size, or records why it is invalid.
pub(super) fn take_size(node: &mut NodeReader<'_>, draft: &mut Draft, bytes: u64, key: &str, page: PageSize) {
    match check_size(bytes, page) {
        Ok(()) => draft.size = Some(bytes),
        Err(reason) => node.fail(key, reason.to_string()),
    }
}

/// Sets base and size from numbers. Size 0 means that none is given, base 0 that any base is valid.
pub(super) fn take_place(
    node: &mut NodeReader<'_>,
    draft: &mut Draft,
    (base, bytes): (u64, u64),
    key: &str,
    page: PageSize,
) {
    if bytes != 0 {
        draft.base = Some(base).filter(|base| *base != 0);
        take_size(node, draft, bytes, key, page);
    }
}

/// Sets base and size from a key's two cells.
pub(super) fn take_cells(node: &mut NodeReader<'_>, draft: &mut Draft, key: &str, page: PageSize) {
    match node.get(key, cells).as_deref() {
        Some([base, size]) => take_place(node, draft, (u64::from(*base), u64::from(*size)), key, page),
        Some(other) => {
            let count = other.len();
            node.fail(key, format!("{key} has {count} cells, but it must have 2, the base and the size"));
        }
        None => {}
    }
}

/// Sets the alignment to at least `bytes`, rounded up to the page size and the next power of two,
/// as the kernels do.
pub(super) fn take_alignment(node: &mut NodeReader<'_>, draft: &mut Draft, bytes: u64, key: &str) {
    match bytes.max(draft.alignment).checked_next_power_of_two() {
        Some(alignment) => draft.alignment = alignment,
        None => node.fail(key, format!("{key} is {bytes:#x}, but it must be at most {:#x}", 1_u64 << 63)),
    }
}

/// Returns a heap with this name. Records an invalid name at `key`.
pub(super) fn named(
    node: &mut NodeReader<'_>,
    name: &str,
    kind: HeapType,
    key: &str,
    page: PageSize,
) -> Option<Draft> {
    let name = HeapName::new(name).map_err(|error| node.fail(key, error.to_string())).ok()?;
    Some(Draft::new(node.node, name, kind, page))
}

/// Reads a required string.
pub(super) fn required_text(node: &mut NodeReader<'_>, key: &str) -> Option<String> {
    if !node.has(key) {
        node.fail(key, format!("{key} is missing"));
    }
    node.get(key, text)
}

/// Returns why a heap of a type that only the vendor's kernel has cannot be served. `shown` is the
/// type in the tree.
pub(super) fn vendors_own(key: &str, shown: &str) -> String {
    let shown: String = shown.chars().take(64).collect();
    format!("{key} {shown} is a type of the vendor's own")
}
