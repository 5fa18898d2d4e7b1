// SPDX-License-Identifier: Apache-2.0
//! Heaps between their description and the final list: assigns ids and checks that names are
//! unique.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Report, Severity};
use super::region;
use super::spec::{Device, HeapSpec};
use super::tree::{NodeId, Tree};
use crate::units::{HeapId, HeapName, HeapType, MAX_HEAPS, PageSize, Uid};

/// ION's page orders: 1 MiB, 64 KiB and 4 KiB with pages of 4 KiB.
pub(super) const DEFAULT_POOL_ORDERS: [u32; 3] = [8, 4, 0];

/// One described heap. Like a [`HeapSpec`], but the id may be missing.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) node: NodeId,
    pub(super) id: Option<HeapId>,
    pub(super) name: HeapName,
    pub(super) aliases: Vec<HeapName>,
    pub(super) kind: HeapType,
    pub(super) device: Device,
    pub(super) fallbacks: Vec<Device>,
    pub(super) devices: Vec<Device>,
    pub(super) size: Option<u64>,
    pub(super) alignment: u64,
    pub(super) chunk_size: Option<u64>,
    pub(super) stride_align: u32,
    pub(super) cached: bool,
    pub(super) deferred_free: bool,
    pub(super) pool_orders: Vec<u32>,
    pub(super) pool_limit: Option<u64>,
    pub(super) secure: bool,
    pub(super) recycle: bool,
    pub(super) client_seals: bool,
    pub(super) allow_uids: Option<Vec<Uid>>,
    pub(super) shared: Option<String>,
    pub(super) unavailable: Option<String>,
    /// Its reserved memory, if the tree names one.
    pub(super) region: Option<NodeId>,
    pub(super) base: Option<u64>,
    pub(super) is_default_pool: bool,
    pub(super) kernel_names: Vec<HeapName>,
}

impl Draft {
    /// Returns a heap with the defaults of its kind.
    pub(super) fn new(node: NodeId, name: HeapName, kind: HeapType, page: PageSize) -> Self {
        Self {
            node,
            id: None,
            name,
            aliases: Vec::new(),
            kind,
            device: Device::Auto,
            fallbacks: Vec::new(),
            devices: Vec::new(),
            size: None,
            alignment: page.bytes(),
            chunk_size: None,
            stride_align: anion_layout::STRIDE_ALIGN,
            cached: true,
            deferred_free: kind == HeapType::System,
            pool_orders: if kind == HeapType::System { DEFAULT_POOL_ORDERS.to_vec() } else { Vec::new() },
            pool_limit: None,
            secure: false,
            recycle: false,
            client_seals: false,
            allow_uids: None,
            shared: None,
            unavailable: None,
            region: None,
            base: None,
            is_default_pool: false,
            kernel_names: Vec::new(),
        }
    }

    /// Records its reserved memory, and the names that a kernel may give a heap of it: the region's
    /// name with and without unit address.
    pub(super) fn set_region(&mut self, tree: &Tree, region: NodeId) {
        self.region = Some(region);
        self.is_default_pool = region::is_default_pool(tree, region);
        self.known_as(tree.name(region));
        self.known_as(tree.base_name(region));
    }

    /// Adds a name that a kernel may have for the heap. Skips an invalid name.
    pub(super) fn known_as(&mut self, name: &str) {
        let name = HeapName::new(name).ok().filter(|name| !self.kernel_names.contains(name));
        self.kernel_names.extend(name);
    }

    fn into_spec(self, id: HeapId, tree: &Tree) -> HeapSpec {
        HeapSpec {
            id,
            name: self.name,
            aliases: self.aliases,
            kind: self.kind,
            device: self.device,
            fallbacks: self.fallbacks,
            devices: self.devices,
            size: self.size,
            alignment: self.alignment,
            chunk_size: self.chunk_size,
            stride_align: self.stride_align,
            cached: self.cached,
            deferred_free: self.deferred_free,
            pool_orders: self.pool_orders,
            pool_limit: self.pool_limit,
            secure: self.secure,
            recycle: self.recycle,
            client_seals: self.client_seals,
            allow_uids: self.allow_uids,
            shared: self.shared,
            unavailable: self.unavailable,
            base: self.base,
            is_default_pool: self.is_default_pool,
            kernel_names: if matches!(self.kind, HeapType::System | HeapType::Dma) {
                self.kernel_names
            } else {
                Vec::new()
            },
            node: tree.path(self.node),
        }
    }
}

/// Returns the final list by descending id. Heaps without an id get the lowest free ones, by node
/// name. A heap whose id, name or alias is taken is an error and is skipped.
pub(super) fn number(drafts: Vec<Draft>, tree: &Tree, report: &mut Report) -> Vec<HeapSpec> {
    let (with_id, without_id): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.id.is_some());
    let wanted: BTreeSet<HeapId> = with_id.iter().filter_map(|draft| draft.id).collect();
    let mut free = (0..).map_while(|id| HeapId::new(id).ok()).filter(|id| !wanted.contains(id));
    let mut taken = Taken::default();
    let mut heaps = Vec::new();
    for draft in with_id.into_iter().chain(without_id) {
        let accepted = match draft.id {
            Some(id) => taken.claim(&draft, id, tree).map(|()| id),
            None => taken.claim_names(&draft, tree).and_then(|()| free.next().ok_or(TakenError::NoId)),
        };
        match accepted {
            Ok(id) => heaps.push(draft.into_spec(id, tree)),
            Err(reason) => {
                let (path, position) = (tree.path(draft.node), tree.position(draft.node));
                report.add(Severity::Error, path, position, reason.to_string());
            }
        }
    }
    heaps.sort_by_key(|heap| std::cmp::Reverse(heap.id));
    heaps
}

/// Reason why a heap cannot have its id or a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum TakenError {
    /// Another heap has the id.
    #[error("heap-id is {id}, but {owner} has it already")]
    Id { id: HeapId, owner: String },
    /// Another heap has the name or alias.
    #[error("name {name} is taken: {owner} has it already")]
    Name { name: HeapName, owner: String },
    /// The heap itself has the name more than once.
    #[error("name {0} is given twice")]
    Twice(HeapName),
    /// Every id is in use.
    #[error("there is no heap id left: {MAX_HEAPS} heaps is the limit")]
    NoId,
}

/// The heaps that have each id and name, as node paths.
#[derive(Default)]
struct Taken {
    ids: BTreeMap<HeapId, String>,
    names: BTreeMap<HeapName, String>,
}

impl Taken {
    fn claim(&mut self, draft: &Draft, id: HeapId, tree: &Tree) -> Result<(), TakenError> {
        if let Some(owner) = self.ids.get(&id) {
            return Err(TakenError::Id { id, owner: owner.clone() });
        }
        self.claim_names(draft, tree)?;
        self.ids.insert(id, tree.path(draft.node));
        Ok(())
    }

    fn claim_names(&mut self, draft: &Draft, tree: &Tree) -> Result<(), TakenError> {
        let mut own = BTreeSet::new();
        for name in [&draft.name].into_iter().chain(&draft.aliases) {
            if let Some(owner) = self.names.get(name) {
                return Err(TakenError::Name { name: name.clone(), owner: owner.clone() });
            }
            if !own.insert(name.clone()) {
                return Err(TakenError::Twice(name.clone()));
            }
        }
        self.names.extend(own.into_iter().map(|name| (name, tree.path(draft.node))));
        Ok(())
    }
}
