// SPDX-License-Identifier: Apache-2.0
//! How many connections a client may have. Each costs the service a thread and message buffers, so one user must not
//! take them all.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections against a limit in all and one for each uid.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    limit_per_uid: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Only uids that have connections.
    by_uid: HashMap<u32, usize>,
}

/// One connection's share of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    uid: u32,
}

/// Which limit a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverBudget {
    Total(usize),
    Uid { uid: u32, limit: usize },
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(limit) => write!(f, "all {limit} connections are in use (--max-connections)"),
            Self::Uid { uid, limit } => {
                write!(f, "uid {uid} has {limit} connections already (--max-connections-per-uid)")
            }
        }
    }
}

impl Budget {
    pub(super) fn new(limit: usize, limit_per_uid: usize) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_uid, open: Mutex::default() })
    }

    /// Takes a share for a connection of `uid`.
    pub(super) fn admit(self: &Arc<Self>, uid: u32) -> Result<Permit, OverBudget> {
        let mut open = self.lock();
        if open.total >= self.limit {
            return Err(OverBudget::Total(self.limit));
        }
        let connections = open.by_uid.get(&uid).copied().unwrap_or(0);
        if connections >= self.limit_per_uid {
            return Err(OverBudget::Uid { uid, limit: self.limit_per_uid });
        }
        open.by_uid.insert(uid, connections + 1);
        open.total += 1;
        Ok(Permit { budget: Arc::clone(self), uid })
    }

    /// Locks the count. Every update completes before the guard is dropped, so a poisoned one is
    /// still right.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.budget.lock();
        open.total -= 1;
        if let Some(connections) = open.by_uid.get_mut(&self.uid) {
            *connections -= 1;
            if *connections == 0 {
                open.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_the_share_of_another() {
        let budget = Budget::new(3, 2);
        let held = [budget.admit(1000), budget.admit(1000)].map(|permit| permit.expect("within"));
        assert_eq!(budget.admit(1000).err(), Some(OverBudget::Uid { uid: 1000, limit: 2 }));
        let _other = budget.admit(1001).expect("within");
        assert_eq!(budget.admit(1002).err(), Some(OverBudget::Total(3)));
        drop(held);
        assert!(budget.admit(1000).is_ok());
    }

    #[test]
    fn a_uid_without_connections_leaves_no_trace() {
        let budget = Budget::new(3, 2);
        drop(budget.admit(1000));
        let open = budget.lock();
        assert!(open.total == 0 && open.by_uid.is_empty());
    }
}
