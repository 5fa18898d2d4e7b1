// SPDX-License-Identifier: Apache-2.0
//! How many sessions and connections a client may have. Each connection costs the service a thread
//! and message buffers, so one user must not take them all. A session is what one client of the
//! library has: AOSP's libbinder opens nine connections for each, Anion's own clients one or two.

use crate::allocator::Throttle;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most that there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections in all.
    pub(super) connections: usize,
    /// Connections of one uid.
    pub(super) connections_per_uid: usize,
    /// Sessions of one uid.
    pub(super) sessions_per_uid: usize,
}

/// Counts sessions and connections against limits.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    open: Mutex<Open>,
    complaints: Mutex<Throttle>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Only uids that have connections.
    by_uid: HashMap<u32, Share>,
}

/// What one uid has.
#[derive(Debug, Default)]
struct Share {
    connections: usize,
    sessions: usize,
}

/// One connection's part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    uid: u32,
    is_session: AtomicBool,
}

/// Which limit a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverBudget {
    Total(usize),
    Connections { uid: u32, limit: usize },
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(limit) => write!(f, "all {limit} connections are in use (--max-connections)"),
            Self::Connections { uid, limit } => {
                write!(f, "uid {uid} has {limit} connections already (--max-connections-per-uid)")
            }
        }
    }
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default(), complaints: Mutex::default() })
    }

    /// Takes a part for a connection of `uid`.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub(super) fn admit(self: &Arc<Self>, uid: u32) -> Result<Permit, OverBudget> {
        let mut open = self.lock();
        if open.total >= self.limits.connections {
            return Err(OverBudget::Total(self.limits.connections));
        }
        let limit = self.limits.connections_per_uid;
        let connections = open.by_uid.get(&uid).map_or(0, |share| share.connections);
        if connections >= limit {
            return Err(OverBudget::Connections { uid, limit });
        }
        open.by_uid.entry(uid).or_default().connections += 1;
        open.total += 1;
        Ok(Permit { budget: Arc::clone(self), uid, is_session: AtomicBool::new(false) })
    }

    /// Locks the count. Every update completes before the guard is dropped, so a poisoned one is
    /// still right.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Counts the connection as the first of a session. Returns false, and logs why, if its uid has
    /// as many as it may have.
    pub(super) fn admits_session(&self) -> bool {
        let limit = self.budget.limits.sessions_per_uid;
        let mut open = self.budget.lock();
        let Some(share) = open.by_uid.get_mut(&self.uid).filter(|share| share.sessions < limit) else {
            drop(open);
            let mut complaints = self.budget.complaints.lock().unwrap_or_else(PoisonError::into_inner);
            complaints.warn(format_args!(
                "a session is refused: uid {} has {limit} already (--max-sessions-per-uid)",
                self.uid
            ));
            return false;
        };
        share.sessions += 1;
        self.is_session.store(true, Ordering::Relaxed);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let is_session = *self.is_session.get_mut();
        let mut open = self.budget.lock();
        open.total -= 1;
        if let Some(share) = open.by_uid.get_mut(&self.uid) {
            share.connections -= 1;
            share.sessions -= usize::from(is_session);
            if share.connections == 0 {
                open.by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { connections: 5, connections_per_uid: 3, sessions_per_uid: 2 };

    #[test]
    fn one_uid_cannot_take_the_share_of_another() {
        let budget = Budget::new(SMALL);
        let held = [(); 3].map(|()| budget.admit(1000).expect("within"));
        assert_eq!(budget.admit(1000).err(), Some(OverBudget::Connections { uid: 1000, limit: 3 }));
        let others = [1001, 1002].map(|uid| budget.admit(uid).expect("within"));
        assert_eq!(budget.admit(1003).err(), Some(OverBudget::Total(5)));
        drop((held, others));
        assert!(budget.admit(1000).is_ok());
    }

    #[test]
    fn a_uid_has_as_many_sessions_as_it_may_have_whatever_joins_them() {
        let budget = Budget::new(SMALL);
        let [first, second, third] = [(); 3].map(|()| budget.admit(1000).expect("within"));
        assert!(first.admits_session() && second.admits_session());
        assert!(!third.admits_session());
        assert!(budget.admit(1001).expect("within").admits_session(), "another uid has its own");
        drop(first);
        assert!(third.admits_session());
    }

    #[test]
    fn a_uid_without_connections_leaves_no_trace() {
        let budget = Budget::new(SMALL);
        budget.admit(1000).expect("within").admits_session();
        drop(budget.admit(1000));
        let open = budget.lock();
        assert!(open.total == 0 && open.by_uid.is_empty(), "{open:?}");
    }
}
