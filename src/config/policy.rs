// SPDX-License-Identifier: Apache-2.0
//! Reads the client policy: the `clients` child of Anion's own node.

use std::collections::BTreeMap;

use super::accounts::{Accounts, CLIENT};
use super::diagnostic::Report;
use super::heaps::{is_on, refuse_unknown};
use super::property::{NodeReader, cells, number, switched_off, texts};
use super::spec::{ClientPolicy, HeapSpec, Policy, Quota, Reserve};
use super::tree::{NodeId, Tree};
use crate::units::{PageSize, Uid};

pub(super) const QUOTA_KEYS: &[&str] = &["max-bytes", "max-buffers"];
pub(super) const CLIENT_KEYS: &[&str] =
    &["max-bytes", "max-buffers", "uids", "users", "groups", "privileged", "reserve-heaps", "reserve-bytes"];

/// Reads `clients`. Skips a client with an error, and a reserve that is impossible.
pub(super) fn read(
    tree: &Tree,
    clients: NodeId,
    heaps: &[HeapSpec],
    page: PageSize,
    accounts: &Accounts<'_>,
    report: &mut Report,
) -> Policy {
    let mut node = NodeReader::new(tree, clients);
    let mut policy = Policy::default();
    if !is_on(&mut node, report) {
        return policy;
    }
    refuse_unknown(&mut node, QUOTA_KEYS);
    policy.default = quota(&mut node);
    node.finish(report);
    let names = heaps.iter().flat_map(|heap| {
        std::iter::once(&heap.name).chain(&heap.aliases).map(move |name| (name.as_str(), heap))
    });
    let on = tree.children(clients).filter(|child| switched_off(tree, *child).is_none());
    let users = on.flat_map(|child| {
        let users = accounts.users(&NodeReader::new(tree, child), &CLIENT);
        users.into_iter().map(move |uid| (uid, child))
    });
    let mut so_far = SoFar {
        heaps: names.collect(),
        page,
        accounts,
        users: users.collect(),
        owners: BTreeMap::new(),
        reserved: BTreeMap::new(),
    };
    for child in tree.children(clients) {
        policy.clients.extend(so_far.client(tree, child, report));
    }
    policy
}

fn quota(node: &mut NodeReader<'_>) -> Quota {
    Quota { max_bytes: node.get("max-bytes", number), max_buffers: node.get("max-buffers", number) }
}

/// Reason why a reserve is impossible.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ReserveError {
    #[error("reserve-heaps names {0:?}, which is no heap")]
    NoHeap(String),
    #[error("reserve-heaps names {0}, but a heap without a size has no reserves")]
    NoSize(String),
    #[error("reserve-heaps names {0} twice")]
    Twice(String),
    #[error("reserve-bytes for {heap} is {bytes:#x}, but it must be a multiple of the page size {page}")]
    NotPages { heap: String, bytes: u64, page: u64 },
    #[error("reserve-bytes for {heap} is {bytes:#x}, but max-bytes {quota:#x} is less")]
    AboveQuota { heap: String, bytes: u64, quota: u64 },
    /// The bytes of all uids of all clients: each uid has the reserve to itself.
    #[error("all reserves of {heap} together are {total:#x}, but its size is {size:#x}")]
    AboveSize { heap: String, total: u128, size: u64 },
}

impl ReserveError {
    /// Returns the property that the error is about.
    fn key(&self) -> &'static str {
        match self {
            Self::NoHeap(_) | Self::NoSize(_) | Self::Twice(_) => "reserve-heaps",
            Self::NotPages { .. } | Self::AboveQuota { .. } | Self::AboveSize { .. } => "reserve-bytes",
        }
    }
}

/// Uids and reserves of the clients read so far.
struct SoFar<'h> {
    /// By name and alias.
    heaps: BTreeMap<&'h str, &'h HeapSpec>,
    page: PageSize,
    accounts: &'h Accounts<'h>,
    /// For each uid that a client names by uid or user, that client, even if it comes later.
    users: BTreeMap<Uid, NodeId>,
    owners: BTreeMap<Uid, String>,
    /// Reserved bytes by heap name.
    reserved: BTreeMap<String, u128>,
}

impl SoFar<'_> {
    fn client(&mut self, tree: &Tree, id: NodeId, report: &mut Report) -> Option<ClientPolicy> {
        let mut node = NodeReader::new(tree, id);
        if !is_on(&mut node, report) {
            return None;
        }
        refuse_unknown(&mut node, CLIENT_KEYS);
        let name = tree.base_name(id).to_owned();
        let uids = self.uids(&mut node, &name);
        let quota = quota(&mut node);
        let privileged = node.flag("privileged");
        let wanted = wanted_reserves(&mut node);
        if !node.finish(report) {
            return None;
        }
        self.owners.extend(uids.iter().map(|uid| (*uid, name.clone())));
        // An error in a reserve does not affect the client's quota and privileges.
        let mut node = NodeReader::new(tree, id);
        let mut client = ClientPolicy { name, uids, quota, privileged, reserves: Vec::new() };
        for (heap, bytes) in wanted {
            match self.reserve(&client, &heap, bytes) {
                Ok(reserve) => client.reserves.push(reserve),
                Err(error) => node.fail(error.key(), error.to_string()),
            }
        }
        node.finish(report);
        Some(client)
    }

    /// Returns the client's uids. A member of a group belongs to the client that names its uid or
    /// user, else to the first client that has one of its groups.
    fn uids(&self, node: &mut NodeReader<'_>, name: &str) -> Vec<Uid> {
        let Some(mut named) = self.accounts.named(node, &CLIENT) else {
            node.fail(
                "uids",
                "uids, users and groups are missing: one of them must name the users of this client",
            );
            return Vec::new();
        };
        let is_another = |uid: &Uid| self.users.get(uid).is_some_and(|client| *client != node.node);
        named.members.retain(|uid| !is_another(uid) && !self.owners.contains_key(uid));
        for uid in &named.users {
            if let Some(owner) = self.owners.get(uid) {
                node.fail(
                    "uids",
                    format!("uid {uid} is in client {name}, but client {owner} has it already"),
                );
            }
        }
        named.all()
    }

    /// Checks one reserve.
    fn reserve(&mut self, client: &ClientPolicy, heap: &str, bytes: u64) -> Result<Reserve, ReserveError> {
        let name = || heap.to_owned();
        let spec = *self.heaps.get(heap).ok_or_else(|| ReserveError::NoHeap(name()))?;
        let size = spec.size.ok_or_else(|| ReserveError::NoSize(name()))?;
        if bytes == 0 || !self.page.divides(bytes) {
            return Err(ReserveError::NotPages { heap: name(), bytes, page: self.page.bytes() });
        }
        if let Some(quota) = client.quota.max_bytes.filter(|quota| bytes > *quota) {
            return Err(ReserveError::AboveQuota { heap: name(), bytes, quota });
        }
        if client.reserves.iter().any(|reserve| reserve.heap == spec.name) {
            return Err(ReserveError::Twice(name()));
        }
        // Each uid of the client has the reserve to itself.
        let reserved = self.reserved.entry(spec.name.to_string()).or_default();
        let total = *reserved + u128::from(bytes) * client.uids.len() as u128;
        if total > u128::from(size) {
            return Err(ReserveError::AboveSize { heap: name(), total, size });
        }
        *reserved = total;
        Ok(Reserve { heap: spec.name.clone(), bytes })
    }
}

/// Reads heap names with their bytes, which are numbers of one or two cells.
fn wanted_reserves(node: &mut NodeReader<'_>) -> Vec<(String, u64)> {
    let (heaps, bytes) = (node.get("reserve-heaps", texts), node.get("reserve-bytes", cells));
    let (heaps, cells) = match (heaps, bytes) {
        (Some(heaps), Some(cells)) => (heaps, cells),
        (None, None) => return Vec::new(),
        // A property that is present but wrong has already been reported.
        _ if node.has("reserve-heaps") && node.has("reserve-bytes") => return Vec::new(),
        _ => {
            let key = if node.has("reserve-heaps") { "reserve-heaps" } else { "reserve-bytes" };
            node.fail(key, "reserve-heaps and reserve-bytes go together, but one is missing");
            return Vec::new();
        }
    };
    let numbers: Vec<u64> = if cells.len() == heaps.len() {
        cells.iter().copied().map(u64::from).collect()
    } else if cells.len() == 2 * heaps.len() {
        cells.as_chunks::<2>().0.iter().map(|[high, low]| u64::from(*high) << 32 | u64::from(*low)).collect()
    } else {
        let (heaps, cells) = (heaps.len(), cells.len());
        node.fail(
            "reserve-bytes",
            format!("reserve-bytes has {cells} cells for {heaps} heaps, not one or two each"),
        );
        return Vec::new();
    };
    heaps.into_iter().zip(numbers).collect()
}
