// SPDX-License-Identifier: Apache-2.0
//! Vendors whose heaps are the children of one node, each with an id, a name, the number of ION's
//! type and optional memory: Unisoc, Marvell, Telechips. Another such vendor needs only a row in
//! [`VENDORS`].

use super::{Import, named, take_cells, take_default_pool, take_place, take_region, vendors_own};
use crate::config::draft::Draft;
use crate::config::property::{NodeReader, cells, number, text};
use crate::config::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapType, PageSize};

/// The keys of one vendor. Of several keys in a list, the first that a heap has applies.
struct Vendor {
    /// The container's `compatible` strings.
    containers: &'static [&'static str],
    /// Key of the heap's id, a cell.
    id: &'static str,
    /// Keys of the name, a string. Without one, the node's name applies.
    names: &'static [&'static str],
    /// Keys of the number of ION's type, a cell. If a key has two cells, the second is the type;
    /// without a key, the id is the type.
    types: &'static [&'static str],
    /// Key of address and size, two cells.
    place: Option<&'static str>,
    /// Keys of the address and the size, if they are separate.
    base_and_size: Option<[&'static str; 2]>,
    /// Known keys that are ignored.
    others: &'static [&'static str],
}

const VENDORS: &[Vendor] = &[
    // Unisoc (Spreadtrum); the longer keys are those of kernel 3.x.
    Vendor {
        containers: &["sprd,ion", "sprd,ion-sprd"],
        id: "reg",
        names: &["label", "reg-names"],
        types: &["type", "sprd,ion-heap-type"],
        place: Some("sprd,ion-heap-mem"),
        base_and_size: None,
        others: &[],
    },
    Vendor {
        containers: &["pxa-ion", "marvell,pxa-ion"],
        id: "marvell,ion-id",
        names: &["marvell,ion-name"],
        types: &["marvell,ion-type"],
        place: None,
        base_and_size: Some(["marvell,ion-base", "marvell,ion-size"]),
        others: &["marvell,ion-iommu"],
    },
    Vendor {
        containers: &["telechips,tcc-ion"],
        id: "reg",
        names: &["telechips,ion-heap-name"],
        types: &["reg"],
        place: None,
        base_and_size: None,
        others: &[],
    },
];

/// ION's numbers of types.
const TYPES: &[(u32, HeapType)] = &[
    (0, HeapType::System),
    (1, HeapType::SystemContig),
    (2, HeapType::Carveout),
    (3, HeapType::Chunk),
    (4, HeapType::Dma),
];

fn vendor(compatible: &[String]) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| compatible.iter().any(|word| vendor.containers.contains(&word.as_str())))
}

pub(super) fn claims(_: &Tree, _: NodeId, compatible: &[String]) -> bool {
    vendor(compatible).is_some()
}

pub(super) fn import(import: &mut Import<'_>, container: NodeId) {
    let words = crate::config::property::compatibles(import.tree, container);
    let Some(vendor) = vendor(&words) else { return };
    let pool = import.default_pool;
    let known: Vec<&str> = [&[vendor.id, "memory-region"], vendor.names, vendor.types, vendor.others]
        .concat()
        .into_iter()
        .chain(vendor.place)
        .chain(vendor.base_and_size.into_iter().flatten())
        .collect();
    for child in import.tree.children(container) {
        import.heap(child, &known, |node, page| heap(node, vendor, pool, page));
    }
}

fn heap(node: &mut NodeReader<'_>, vendor: &Vendor, pool: Option<NodeId>, page: PageSize) -> Option<Draft> {
    let id_cells = cells_of(node, vendor.id)?;
    let [number, ..] = id_cells[..] else {
        node.fail(vendor.id, format!("{} is empty, but it must be the heap's id", vendor.id));
        return None;
    };
    let id = HeapId::new(number).map_err(|error| node.fail(vendor.id, error.to_string())).ok()?;
    let type_key = vendor.types.iter().find(|key| node.has(key)).copied().unwrap_or(vendor.types[0]);
    let type_cells = cells_of(node, type_key)?;
    let kind_number = *type_cells.last()?;
    let kind =
        TYPES.iter().find(|(known, _)| *known == kind_number).map_or(HeapType::Custom, |(_, kind)| *kind);
    let name_key = vendor.names.iter().find(|key| node.has(key)).copied();
    let name = match name_key {
        Some(key) => node.get(key, text)?,
        None => node.tree.base_name(node.node).to_owned(),
    };
    let mut draft = named(node, &name, kind, name_key.unwrap_or(""), page)?;
    draft.id = Some(id);
    draft.deferred_free = matches!(kind, HeapType::System | HeapType::Carveout | HeapType::Chunk);
    memory(node, &mut draft, vendor, pool, page);
    if kind == HeapType::Custom {
        draft.unavailable = Some(vendors_own(type_key, &kind_number.to_string()));
    }
    Some(draft)
}

/// Reads a required key of one or more cells.
fn cells_of(node: &mut NodeReader<'_>, key: &str) -> Option<Vec<u32>> {
    if !node.has(key) {
        node.fail(key, format!("{key} is missing"));
    }
    node.get(key, cells)
}

/// Reads the heap's memory by the first of the vendor's keys that it has.
fn memory(
    node: &mut NodeReader<'_>,
    draft: &mut Draft,
    vendor: &Vendor,
    pool: Option<NodeId>,
    page: PageSize,
) {
    if node.has("memory-region") {
        if let Some(region) = node.target("memory-region") {
            take_region(node, draft, region, "memory-region", page);
        }
    } else if let Some(key) = vendor.place.filter(|key| node.has(key)) {
        take_cells(node, draft, key, page);
    } else if let Some([base, size]) = vendor.base_and_size.filter(|[_, size]| node.has(size)) {
        let base = node.get(base, number).unwrap_or(0);
        if let Some(bytes) = node.get(size, number) {
            take_place(node, draft, (base, bytes), size, page);
        }
    } else if draft.kind == HeapType::Dma {
        take_default_pool(node, draft, pool, vendor.id, page);
    }
}
