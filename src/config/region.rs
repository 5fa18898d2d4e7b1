// SPDX-License-Identifier: Apache-2.0
//! Reads a region of reserved memory: its base, its size and its kind.

use super::property::{Head, Shape, ShapeError, cell, cells, head, is_compatible, read, switched_off};
use super::tree::{NodeId, Tree};

/// Size and base of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its first address; `None` if the kernel chooses one when it starts.
    pub(super) base: Option<u64>,
    /// Its size in bytes; 0 if the region is disabled.
    pub(super) bytes: u64,
}

/// Reason why the size of a region is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("region {region}: {fault}")]
pub(super) struct RegionError {
    /// Path of its node.
    region: String,
    fault: RegionFault,
}

impl RegionError {
    /// Returns the error without the region's name, for a message that already has it.
    pub(super) fn fault(&self) -> String {
        self.fault.to_string()
    }

    /// Returns whether the region only has no size, which is no error.
    pub(super) fn is_silence(&self) -> bool {
        self.fault == RegionFault::NoSize
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RegionFault {
    #[error("it has neither reg nor size")]
    NoSize,
    /// A property of the region or of its parent has the wrong shape.
    #[error("{property} {fault}")]
    Shape { property: &'static str, fault: ShapeError },
    /// Linux ignores such a region.
    #[error(
        "reg has {cells}, but it must have {expected} or a multiple of that, as #address-cells {address} and \
         #size-cells {size} say",
        cells = counted(*.cells), expected = u64::from(*.address) + u64::from(*.size)
    )]
    Reg { cells: usize, address: u32, size: u32 },
    /// Linux refuses such a property.
    #[error(
        "{property} has {cells}, but it must have {expected}, as {count} says",
        cells = counted(*.cells)
    )]
    Cells { property: &'static str, cells: usize, count: &'static str, expected: u32 },
    #[error("#size-cells is {0}, but a size has 1 or 2 cells")]
    SizeCells(u32),
    /// Linux refuses to make a pool of such a region.
    #[error("reusable and no-map exclude each other: the kernel refuses such a pool")]
    ReusableUnmapped,
}

fn counted(cells: usize) -> String {
    format!("{cells} cell{}", if cells == 1 { "" } else { "s" })
}

/// Returns whether the node is a child of `/reserved-memory`.
pub(super) fn is_reserved(tree: &Tree, node: NodeId) -> bool {
    tree.parent(node).is_some_and(|parent| {
        tree.base_name(parent) == "reserved-memory" && tree.parent(parent) == Some(tree.root())
    })
}

/// Returns the node `/reserved-memory`, if there is one.
pub(super) fn reserved_memory(tree: &Tree) -> Option<NodeId> {
    tree.find("/reserved-memory")
}

/// Returns the cell counts of `/reserved-memory` that differ from the root's: name, own value, the
/// root's value. Linux uses the node only if they are equal.
pub(super) fn unlike_root(tree: &Tree, reserved_memory: NodeId) -> Vec<(&'static str, u32, u32)> {
    let count = |node, key| tree.property(node, key).and_then(|property| read(property, cell).ok());
    let unlike = |key| {
        let (own, root) = (count(reserved_memory, key)?, count(tree.root(), key)?);
        (own != root).then_some((key, own, root))
    };
    ["#address-cells", "#size-cells"].into_iter().filter_map(unlike).collect()
}

/// Returns the children of `/reserved-memory`.
pub(super) fn all(tree: &Tree) -> Vec<NodeId> {
    reserved_memory(tree).map(|parent| tree.children(parent).collect()).unwrap_or_default()
}

/// Returns whether the kernel makes the region a contiguous-memory pool.
pub(super) fn is_cma_pool(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "shared-dma-pool") && tree.property(node, "reusable").is_some()
}

/// Returns whether the region is the pool that devices without a region of their own share.
pub(super) fn is_default_pool(tree: &Tree, node: NodeId) -> bool {
    is_cma_pool(tree, node) && tree.property(node, "linux,cma-default").is_some()
}

/// Returns the pool that devices without a region of their own share.
pub(super) fn default_cma_pool(tree: &Tree) -> Option<NodeId> {
    all(tree).into_iter().find(|node| is_default_pool(tree, *node))
}

/// Returns the nodes in the list of phandles in `key`. Skips a phandle that no node has.
pub(super) fn targets(tree: &Tree, node: NodeId, key: &str) -> Vec<NodeId> {
    let phandles =
        tree.property(node, key).and_then(|property| read(property, cells).ok()).unwrap_or_default();
    phandles.into_iter().filter_map(|phandle| tree.by_phandle(phandle)).collect()
}

/// Returns the reason why the region does not exist at run time; `None` if it does.
pub(super) fn switched_off_region(tree: &Tree, region: NodeId) -> Option<String> {
    switched_off(tree, region).map(|why| format!("region {}: {why}", tree.path(region)))
}

/// Returns base and size of the region. As in Linux, `reg` has priority over `size`, and only the
/// first range in `reg` is used.
///
/// # Errors
/// If it has neither, their shape does not fit its parent's cell counts, or it is a pool that the
/// kernel refuses.
pub(super) fn extent(tree: &Tree, region: NodeId) -> Result<Extent, RegionError> {
    read_extent(tree, region).map_err(|fault| RegionError { region: tree.path(region), fault })
}

fn read_extent(tree: &Tree, region: NodeId) -> Result<Extent, RegionFault> {
    let has = |property| tree.property(region, property).is_some();
    if has("reusable") && has("no-map") {
        return Err(RegionFault::ReusableUnmapped);
    }
    let (address, size) = cell_counts(tree, region)?;
    if let Some(reg) = get(tree, region, "reg", head)? {
        return in_reg(&reg, address, size);
    }
    let given = get(tree, region, "size", head)?.ok_or(RegionFault::NoSize)?;
    let wrong = |property, cells, count, expected| RegionFault::Cells { property, cells, count, expected };
    let bytes = joined(&given, size)?.ok_or_else(|| wrong("size", given.count, "#size-cells", size))?;
    if let Some(alignment) = get(tree, region, "alignment", head)?
        && alignment.count != address as usize
    {
        return Err(wrong("alignment", alignment.count, "#address-cells", address));
    }
    Ok(Extent { base: None, bytes })
}

/// Returns `#address-cells` and `#size-cells` for the region. As in Linux, they are those of the
/// nearest ancestor that has them; else the specification's defaults.
fn cell_counts(tree: &Tree, region: NodeId) -> Result<(u32, u32), RegionFault> {
    let count = |property, default| {
        let mut above = tree.parent(region);
        while let Some(node) = above {
            if let Some(count) = get(tree, node, property, cell)? {
                return Ok(count);
            }
            above = tree.parent(node);
        }
        Ok(default)
    };
    Ok((count("#address-cells", 2)?, count("#size-cells", 1)?))
}

/// Returns the number of ranges in the region's `reg`; 0 if it is missing or wrong.
pub(super) fn ranges(tree: &Tree, region: NodeId) -> usize {
    let (Ok(Some(reg)), Ok((address, size))) = (get(tree, region, "reg", head), cell_counts(tree, region))
    else {
        return 0;
    };
    reg.count.checked_div(address as usize + size as usize).unwrap_or(0)
}

/// Returns the first range of `reg`.
fn in_reg(reg: &Head, address: u32, size: u32) -> Result<Extent, RegionFault> {
    let wrong = || RegionFault::Reg { cells: reg.count, address, size };
    let entry = (address as usize).checked_add(size as usize).filter(|entry| *entry > 0).ok_or_else(wrong)?;
    if reg.count == 0 || !reg.count.is_multiple_of(entry) {
        return Err(wrong());
    }
    let (base, length) = reg.first.get(..entry).ok_or_else(wrong)?.split_at(address as usize);
    let length = Head { count: length.len(), first: length.to_vec() };
    let bytes = joined(&length, size)?.ok_or_else(wrong)?;
    Ok(Extent { base: join(base), bytes })
}

/// Returns the number in `cells`; `None` if their count is not `expected`.
fn joined(cells: &Head, expected: u32) -> Result<Option<u64>, RegionFault> {
    if !(1..=2).contains(&expected) {
        return Err(RegionFault::SizeCells(expected));
    }
    Ok(join(&cells.first).filter(|_| cells.count == expected as usize))
}

/// Returns the number in one or two cells, high cell first.
fn join(cells: &[u32]) -> Option<u64> {
    match cells {
        [low] => Some(u64::from(*low)),
        [high, low] => Some(u64::from(*high) << 32 | u64::from(*low)),
        _ => None,
    }
}

/// Reads an optional property.
fn get<T>(
    tree: &Tree,
    node: NodeId,
    property: &'static str,
    shape: Shape<T>,
) -> Result<Option<T>, RegionFault> {
    let value = tree.property(node, property).map(|value| read(value, shape)).transpose();
    value.map_err(|fault| RegionFault::Shape { property, fault })
}
