// SPDX-License-Identifier: Apache-2.0
//! Reads the uids that a configuration names: by number, or by names of users and groups, which the
//! system's database of accounts resolves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::property::{NodeReader, Shape, cells, read, texts};
use crate::units::Uid;

/// Most names of users and groups in one configuration: each lookup may query a directory on the
/// network.
const MAX_NAMES: usize = 1024;

/// A name in the system's database of accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// The name of a user.
    User(String),
    /// The name of a group, which stands for its members.
    Group(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name:?}"),
            Self::Group(name) => write!(f, "group {name:?}"),
        }
    }
}

/// Reason why a name could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The database has no such name.
    #[error("this machine has no {0}")]
    Unknown(Account),
    /// The database could not be read.
    #[error("{account} cannot be looked up: {reason}")]
    Failed {
        /// The account that was looked up.
        account: Account,
        /// The system's error.
        reason: String,
    },
    /// [`MAX_NAMES`] names came before it.
    #[error("{0} is one name more than the {MAX_NAMES} that a configuration may have")]
    TooMany(Account),
}

/// Returns the uids that an account stands for.
pub type LookUp<'l> = &'l dyn Fn(&Account) -> Result<Vec<Uid>, AccountError>;

/// The results of a configuration's lookups, each made once.
pub(super) struct Accounts<'l> {
    look_up: LookUp<'l>,
    known: RefCell<BTreeMap<Account, Result<Vec<Uid>, AccountError>>>,
}

/// The properties of a node that name uids.
pub(super) struct Keys {
    uids: &'static str,
    users: &'static str,
    groups: &'static str,
}

/// The properties of a heap.
pub(super) const ALLOWED: Keys = Keys { uids: "allow-uids", users: "allow-users", groups: "allow-groups" };
/// The properties of a client.
pub(super) const CLIENT: Keys = Keys { uids: "uids", users: "users", groups: "groups" };

/// The uids that a node names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Named by uid or by the name of a user. Sorted, without duplicates.
    pub(super) users: Vec<Uid>,
    /// Members of named groups. Sorted, without duplicates.
    pub(super) members: Vec<Uid>,
}

impl<'l> Accounts<'l> {
    pub(super) fn new(look_up: LookUp<'l>) -> Self {
        Self { look_up, known: RefCell::default() }
    }

    fn uids(&self, account: Account) -> Result<Vec<Uid>, AccountError> {
        let mut known = self.known.borrow_mut();
        if let Some(found) = known.get(&account) {
            return found.clone();
        }
        if known.len() >= MAX_NAMES {
            return Err(AccountError::TooMany(account));
        }
        let found = (self.look_up)(&account);
        known.insert(account, found.clone());
        found
    }

    /// Returns the uids that the node names; `None` if it has none of the properties. Records an
    /// empty property, an unknown name, and a group without members.
    pub(super) fn named(&self, node: &mut NodeReader<'_>, keys: &Keys) -> Option<Named> {
        if ![keys.uids, keys.users, keys.groups].iter().any(|key| node.has(key)) {
            return None;
        }
        let mut named = Named::default();
        let uids = listed(node, keys.uids, "uid", cells);
        named.users.extend(uids.into_iter().map(Uid));
        for user in listed(node, keys.users, "user", texts) {
            named.users.extend(self.found(node, keys.users, Account::User(user)).into_iter().flatten());
        }
        for group in listed(node, keys.groups, "group", texts) {
            let account = Account::Group(group);
            let members = self.found(node, keys.groups, account.clone());
            if members.as_ref().is_some_and(Vec::is_empty) {
                node.warn(keys.groups, format!("{} names {account}, which has no members", keys.groups));
            }
            named.members.extend(members.into_iter().flatten());
        }
        for list in [&mut named.users, &mut named.members] {
            list.sort_unstable();
            list.dedup();
        }
        Some(named)
    }

    /// Returns the uids of an account; `None` if it has none or the lookup fails, which is
    /// recorded.
    fn found(&self, node: &mut NodeReader<'_>, key: &str, account: Account) -> Option<Vec<Uid>> {
        let found = self.uids(account);
        found.map_err(|error| node.fail(key, format!("{key}: {error}"))).ok()
    }

    /// Returns the uids that the node names by uid or by the name of a user. Skips unknown ones,
    /// and records nothing.
    pub(super) fn users(&self, node: &NodeReader<'_>, keys: &Keys) -> Vec<Uid> {
        let property = |key| node.tree.property(node.node, key);
        let uids = property(keys.uids).and_then(|property| read(property, cells).ok()).unwrap_or_default();
        let users = property(keys.users).and_then(|property| read(property, texts).ok()).unwrap_or_default();
        let of_users = users.into_iter().filter_map(|user| self.uids(Account::User(user)).ok());
        uids.into_iter().map(Uid).chain(of_users.flatten()).collect()
    }
}

impl Named {
    /// Returns all uids, sorted, without duplicates.
    pub(super) fn all(self) -> Vec<Uid> {
        let mut all = [self.users, self.members].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Returns the elements of a property. Records a property that is present and empty.
fn listed<T>(node: &mut NodeReader<'_>, key: &str, what: &str, shape: Shape<Vec<T>>) -> Vec<T> {
    let list = node.get(key, shape);
    if list.as_ref().is_some_and(Vec::is_empty) {
        node.fail(key, format!("{key} is empty, but it must name at least one {what}"));
    }
    list.unwrap_or_default()
}
