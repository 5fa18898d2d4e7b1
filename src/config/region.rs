// SPDX-License-Identifier: Apache-2.0
//! Reserved memory: how big a region is and what kind it is.

use super::property::{cell, cells, is_compatible, number, read, switched_off};
use super::tree::{NodeId, Tree};

/// Whether the node is a child of `/reserved-memory`.
pub(super) fn is_reserved(tree: &Tree, node: NodeId) -> bool {
    tree.parent(node).is_some_and(|parent| {
        tree.base_name(parent) == "reserved-memory" && tree.parent(parent) == Some(tree.root())
    })
}

/// The children of `/reserved-memory`.
pub(super) fn all(tree: &Tree) -> Vec<NodeId> {
    tree.find("/reserved-memory").map(|parent| tree.children(parent).collect()).unwrap_or_default()
}

/// Whether the kernel makes a contiguous-memory pool of it.
pub(super) fn is_cma_pool(tree: &Tree, node: NodeId) -> bool {
    is_compatible(tree, node, "shared-dma-pool") && tree.property(node, "reusable").is_some()
}

/// The pool that devices without a region of their own share.
pub(super) fn default_cma_pool(tree: &Tree) -> Option<NodeId> {
    all(tree)
        .into_iter()
        .find(|node| is_cma_pool(tree, *node) && tree.property(*node, "linux,cma-default").is_some())
}

/// Why the region does not exist at run time; `None` if it does.
pub(super) fn switched_off_region(tree: &Tree, region: NodeId) -> Option<String> {
    switched_off(tree, region).map(|why| format!("region {}: {why}", tree.path(region)))
}

/// The region's bytes. As in Linux, `reg` wins over `size`.
///
/// # Errors
/// If it has neither, or they do not have the shape that its parent's cell counts demand.
pub(super) fn bytes(tree: &Tree, region: NodeId) -> Result<u64, String> {
    let within = |reason| format!("region {}: {reason}", tree.path(region));
    if let Some(reg) = tree.property(region, "reg") {
        let cells = read(reg, cells).map_err(|reason| within(format!("reg {reason}")))?;
        return size_in_reg(tree, region, &cells).map_err(within);
    }
    let Some(size) = tree.property(region, "size") else {
        return Err(within("it has neither reg nor size".to_owned()));
    };
    read(size, number).map_err(|reason| within(format!("size {reason}")))
}

/// The size in the first entry of `reg`.
fn size_in_reg(tree: &Tree, region: NodeId, reg: &[u32]) -> Result<u64, String> {
    let count = |key: &str, default| {
        let property = tree.parent(region).and_then(|parent| tree.property(parent, key));
        property
            .map_or(Ok(default), |property| read(property, cell).map_err(|reason| format!("{key} {reason}")))
    };
    // The defaults of the specification.
    let (address, size) = (count("#address-cells", 2)?, count("#size-cells", 1)?);
    let after_address = usize::try_from(address).ok().and_then(|address| reg.get(address..));
    match (after_address, size) {
        (Some([low, ..]), 1) => Ok(u64::from(*low)),
        (Some([high, low, ..]), 2) => Ok(u64::from(*high) << 32 | u64::from(*low)),
        _ => Err(format!(
            "reg has {} cells, but its parent's #address-cells {address} and #size-cells {size} ask for more",
            reg.len()
        )),
    }
}
