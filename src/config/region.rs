// SPDX-License-Identifier: Apache-2.0
//! Reserved memory: how big a region is and what kind it is.

use super::property::{Shape, ShapeError, cell, cells, is_compatible, number, read, switched_off};
use super::tree::{NodeId, Tree};

/// Why the size of a region is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("region {region}: {fault}")]
pub(super) struct RegionError {
    /// Path of its node.
    region: String,
    fault: RegionFault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RegionFault {
    #[error("it has neither reg nor size")]
    NoSize,
    /// A property of the region or of its parent has the wrong shape.
    #[error("{property} {fault}")]
    Shape { property: &'static str, fault: ShapeError },
    #[error(
        "reg has {cells} cells, but its parent's #address-cells {address} and #size-cells {size} ask for more"
    )]
    ShortReg { cells: usize, address: u32, size: u32 },
}

/// Returns whether the node is a child of `/reserved-memory`.
pub(super) fn is_reserved(tree: &Tree, node: NodeId) -> bool {
    tree.parent(node).is_some_and(|parent| {
        tree.base_name(parent) == "reserved-memory" && tree.parent(parent) == Some(tree.root())
    })
}

/// Returns the children of `/reserved-memory`.
pub(super) fn all(tree: &Tree) -> Vec<NodeId> {
    tree.find("/reserved-memory").map(|parent| tree.children(parent).collect()).unwrap_or_default()
}

/// Returns whether the kernel makes a contiguous-memory pool of it.
pub(super) fn is_cma_pool(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "shared-dma-pool") && tree.property(node, "reusable").is_some()
}

/// Returns the pool that devices without a region of their own share.
pub(super) fn default_cma_pool(tree: &Tree) -> Option<NodeId> {
    all(tree)
        .into_iter()
        .find(|node| is_cma_pool(tree, *node) && tree.property(*node, "linux,cma-default").is_some())
}

/// Returns why the region does not exist at run time; `None` if it does.
pub(super) fn switched_off_region(tree: &Tree, region: NodeId) -> Option<String> {
    switched_off(tree, region).map(|why| format!("region {}: {why}", tree.path(region)))
}

/// Returns the region's bytes. As in Linux, `reg` wins over `size`.
///
/// # Errors
/// If it has neither, or they do not have the shape that its parent's cell counts demand.
pub(super) fn bytes(tree: &Tree, region: NodeId) -> Result<u64, RegionError> {
    size(tree, region).map_err(|fault| RegionError { region: tree.path(region), fault })
}

fn size(tree: &Tree, region: NodeId) -> Result<u64, RegionFault> {
    match get(tree, region, "reg", cells)? {
        Some(reg) => size_in_reg(tree, region, &reg),
        None => get(tree, region, "size", number)?.ok_or(RegionFault::NoSize),
    }
}

/// Returns the size in the first entry of `reg`.
fn size_in_reg(tree: &Tree, region: NodeId, reg: &[u32]) -> Result<u64, RegionFault> {
    let count = |property, default| {
        let count = tree.parent(region).map(|parent| get(tree, parent, property, cell)).transpose()?;
        Ok(count.flatten().unwrap_or(default))
    };
    // The defaults of the specification.
    let (address, size) = (count("#address-cells", 2)?, count("#size-cells", 1)?);
    let after_address = usize::try_from(address).ok().and_then(|address| reg.get(address..));
    match (after_address, size) {
        (Some([low, ..]), 1) => Ok(u64::from(*low)),
        (Some([high, low, ..]), 2) => Ok(u64::from(*high) << 32 | u64::from(*low)),
        _ => Err(RegionFault::ShortReg { cells: reg.len(), address, size }),
    }
}

/// Reads a property that the node may have.
fn get<T>(
    tree: &Tree,
    node: NodeId,
    property: &'static str,
    shape: Shape<T>,
) -> Result<Option<T>, RegionFault> {
    let value = tree.property(node, property).map(|value| read(value, shape)).transpose();
    value.map_err(|fault| RegionFault::Shape { property, fault })
}
