// SPDX-License-Identifier: Apache-2.0
//! Limits of a client's sessions, connections and unfinished messages. Each connection costs the
//! service a thread and message buffers, so no user may occupy all of them. A session is the set of
//! connections of one client of the library: AOSP's libbinder opens nine, Anion's own clients one
//! or two.
//!
//! An eighth of all connections is kept for users who have none, and another eighth for privileged
//! users: root, the service's own user, privileged users and users with reserves. If no connection
//! is free for a client, the service ends the connection that was idle longest of the user with the
//! most. In addition, root and the service's own user have a few connections for administration.

use super::closer::Closers;
use crate::allocator::Throttles;
use anion_ipc::{Held, Opening, Refused};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::geteuid;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Divisor of the limit of all connections: the result is kept for each of two kinds of users.
const KEPT: usize = 8;
/// Time that a connection must have been silent before another user may displace it.
const IDLE: Duration = Duration::from_secs(1);
/// Divisor of the limit of unfinished messages of all uids: the result is the limit of one uid.
const HELD_OF_UID: usize = 4;
/// Divisor of the same limit: the result is kept for privileged users.
const HELD_KEPT: usize = 4;

/// Connections outside the budget for root and the service's own user, who can then administer a
/// service whose connections are all in use.
const OPERATORS: usize = 8;

/// Maximum numbers and sizes.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Connections in all.
    pub(super) connections: usize,
    /// Connections of one uid.
    pub(super) connections_per_uid: usize,
    /// Sessions of one uid.
    pub(super) sessions_per_uid: usize,
    /// Bytes and descriptors of all unfinished messages.
    pub(super) held: Held,
}

/// Counts sessions and connections, and compares the counts with the limits.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    own_uid: u32,
    start: Instant,
    open: Mutex<Open>,
    complaints: Mutex<Throttles>,
    closers: Closers,
}

#[derive(Debug, Default)]
struct Open {
    /// Number of connections, without evicted ones and those outside the budget.
    total: usize,
    /// Number of connections outside the budget.
    operators: usize,
    held: Held,
    /// Uids for which connections and memory for messages are kept.
    privileged: HashSet<u32>,
    /// Only uids that have connections.
    by_uid: HashMap<u32, Share>,
    next: u64,
}

/// Usage of one uid.
#[derive(Debug, Default)]
struct Share {
    connections: HashMap<u64, Connection>,
    /// Number of connections outside the budget.
    beside: usize,
    sessions: usize,
    held: Held,
}

/// An open connection.
#[derive(Debug)]
struct Connection {
    pid: i32,
    /// Its socket; `None` once it is about to be closed.
    socket: Option<RawFd>,
    /// Milliseconds from the budget's start to its last message.
    last: Arc<AtomicU64>,
    is_session: bool,
    /// Whether it was ended for another client.
    is_evicted: bool,
    /// Whether it is outside the budget.
    is_beside: bool,
    held: Held,
}

/// One connection's part of the budget. Dropping it returns the part.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    uid: u32,
    key: u64,
    last: Arc<AtomicU64>,
    /// The limit that it exceeds if it is outside the budget.
    beside: Option<OverBudget>,
}

/// The limit that a connection would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverBudget {
    Total { uid: u32, limit: usize },
    Connections { uid: u32, limit: usize },
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total { uid, limit } => write!(
                f,
                "all {limit} connections are in use, or kept for others than uid {uid} (--max-connections)"
            ),
            Self::Connections { uid, limit } => {
                write!(f, "uid {uid} has {limit} connections already (--max-connections-per-uid)")
            }
        }
    }
}

impl Budget {
    pub(super) fn new(limits: Limits, privileged: HashSet<u32>) -> Arc<Self> {
        let open = Mutex::new(Open { privileged, ..Open::default() });
        let (complaints, closers) = (Mutex::default(), Closers::default());
        let own_uid = geteuid().as_raw();
        Arc::new(Self { limits, own_uid, start: Instant::now(), open, complaints, closers })
    }

    /// Changes the privileged uids. Open connections stay.
    pub(super) fn set_privileged(&self, privileged: HashSet<u32>) {
        self.lock().privileged = privileged;
    }

    /// Returns the closers of connections that are not served.
    pub(super) fn closers(&self) -> Closers {
        self.closers.clone()
    }

    /// Takes a part of the budget for a connection of a process, over `socket`. If none is left,
    /// root and the service's own user get a permit outside the budget, only for administration.
    ///
    /// # Errors
    /// The limit that the connection would exceed.
    pub(super) fn admit(self: &Arc<Self>, uid: u32, pid: i32, socket: RawFd) -> Result<Permit, OverBudget> {
        let mut open = self.lock();
        let (evicted, beside) = match self.place(&mut open, uid) {
            Ok(evicted) => (evicted, None),
            Err(over) if self.may_operate(uid) && open.operators < OPERATORS => (None, Some(over)),
            Err(over) => return Err(over),
        };
        let (key, last) = (open.next, Arc::new(AtomicU64::new(self.now())));
        open.next += 1;
        open.total += usize::from(beside.is_none());
        open.operators += usize::from(beside.is_some());
        let connection = Connection {
            pid,
            socket: Some(socket),
            last: Arc::clone(&last),
            is_session: false,
            is_evicted: false,
            is_beside: beside.is_some(),
            held: Held::default(),
        };
        let share = open.by_uid.entry(uid).or_default();
        share.beside += usize::from(beside.is_some());
        share.connections.insert(key, connection);
        drop(open);
        if let Some((uid, pid)) = evicted {
            let limit = self.limits.connections;
            self.complain(
                uid,
                format_args!(
                    "a silent connection of uid {uid} (pid {pid}) makes room for another user's: all \
                     {limit} are in use (--max-connections)"
                ),
            );
        }
        Ok(Permit { budget: Arc::clone(self), uid, key, last, beside })
    }

    /// Makes room for a connection of `uid`. If it ended another connection, returns the uid and
    /// pid of that client.
    ///
    /// # Errors
    /// The limit that the connection would exceed.
    fn place(&self, open: &mut Open, uid: u32) -> Result<Option<(u32, i32)>, OverBudget> {
        let limit = self.limits.connections_per_uid;
        let connections = open.by_uid.get(&uid).map_or(0, Share::count);
        if connections >= limit {
            return Err(OverBudget::Connections { uid, limit });
        }
        if open.total < self.places_for(open, uid, connections) {
            return Ok(None);
        }
        let full = OverBudget::Total { uid, limit: self.limits.connections };
        open.evict_for(connections, self.now()).ok_or(full).map(Some)
    }

    /// Returns whether this uid can have connections outside the budget.
    fn may_operate(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }

    /// Returns the limit of all connections that applies when `uid`, which has `connections`, gets
    /// one more.
    fn places_for(&self, open: &Open, uid: u32, connections: usize) -> usize {
        let (all, kept) = (self.limits.connections, self.limits.connections / KEPT);
        match connections {
            _ if open.privileged.contains(&uid) => all,
            0 => all - kept,
            _ => all - 2 * kept,
        }
    }

    /// Returns the limits of unfinished messages: of `uid`, and of all uids while `uid` has some.
    fn held_for(&self, open: &Open, uid: u32) -> (Held, Held) {
        let all = self.limits.held;
        let part = |of: usize| Held { bytes: all.bytes / of, descriptors: all.descriptors / of };
        let kept = part(HELD_KEPT);
        let ordinary =
            Held { bytes: all.bytes - kept.bytes, descriptors: all.descriptors - kept.descriptors };
        let is_privileged = open.privileged.contains(&uid);
        (part(HELD_OF_UID), if is_privileged { all } else { ordinary })
    }

    /// Returns the milliseconds since the budget was made.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn complain(&self, uid: u32, message: impl fmt::Display) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.warn(uid, message);
    }

    /// Locks the counts. Every update completes before the guard is dropped, so the counts behind a
    /// poisoned lock are correct.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends the connection that was idle longest of the uid with the most connections, for a uid
    /// that has `connections`. Returns the uid and pid of the ended connection's client.
    fn evict_for(&mut self, connections: usize, now: u64) -> Option<(u32, i32)> {
        let (uid, share) = self.by_uid.iter_mut().max_by_key(|(_, share)| share.count())?;
        if share.count() <= connections + 1 {
            return None;
        }
        let candidates = share.connections.values_mut().filter(|one| !one.is_evicted && !one.is_beside);
        let oldest = candidates.min_by_key(|one| one.last.load(Ordering::Relaxed))?;
        let silent = now.saturating_sub(oldest.last.load(Ordering::Relaxed));
        if Duration::from_millis(silent) < IDLE {
            return None;
        }
        oldest.is_evicted = true;
        self.total -= 1;
        // The descriptor still belongs to that connection: its permit removes it here under this
        // lock before the socket is closed. The thread that serves the connection reads the end of
        // the stream.
        if let Some(socket) = oldest.socket {
            let _ = shutdown(socket, Shutdown::Both);
        }
        Some((*uid, oldest.pid))
    }
}

impl Share {
    /// Returns the number of its connections within the budget.
    fn count(&self) -> usize {
        self.connections.len() - self.beside
    }

    fn sum_held(&mut self, from: Held, to: Held) {
        self.held = moved(self.held, from, to);
    }
}

fn moved(sum: Held, from: Held, to: Held) -> Held {
    Held {
        bytes: sum.bytes - from.bytes + to.bytes,
        descriptors: sum.descriptors - from.descriptors + to.descriptors,
    }
}

fn is_within(held: Held, limit: Held) -> bool {
    held.bytes <= limit.bytes && held.descriptors <= limit.descriptors
}

impl anion_ipc::Permit for Permit {
    fn opens(&self, opening: Opening) -> Result<(), Refused> {
        let outcome = match &self.beside {
            Some(_) if opening.is_operator => Ok(()),
            Some(over) => Err(Refused(over.to_string())),
            None if opening.founds_session => self.count_session(opening.is_operator),
            None => Ok(()),
        };
        outcome.inspect_err(|why| self.budget.complain(self.uid, format_args!("a session is refused: {why}")))
    }

    fn admits(&self, held: Held) -> bool {
        let mut open = self.budget.lock();
        let (of_uid, of_all) = self.budget.held_for(&open, self.uid);
        let Some(share) = open.by_uid.get_mut(&self.uid) else { return false };
        let Some(connection) = share.connections.get_mut(&self.key) else { return false };
        let before = std::mem::replace(&mut connection.held, held);
        share.sum_held(before, held);
        let is_within_share = is_within(share.held, of_uid);
        open.held = moved(open.held, before, held);
        let grows = held.bytes > before.bytes || held.descriptors > before.descriptors;
        !grows || (is_within_share && is_within(open.held, of_all))
    }

    fn active(&self) {
        self.last.store(self.budget.now(), Ordering::Relaxed);
    }

    fn refused(&self, why: &dyn fmt::Display) {
        let (uid, pid) = (self.uid, self.pid());
        self.budget.complain(uid, format_args!("a session of uid {uid} (pid {pid}) ends: {why}"));
    }

    fn unserved(&self, socket: OwnedFd) {
        self.budget.closers.close(self.uid, socket.into());
    }

    fn closing(&self) {
        let mut open = self.budget.lock();
        let connection =
            open.by_uid.get_mut(&self.uid).and_then(|share| share.connections.get_mut(&self.key));
        if let Some(connection) = connection {
            connection.socket = None;
        }
    }
}

impl Permit {
    /// Counts the connection as the first of a session. An operator's session may exceed the limit.
    fn count_session(&self, is_operator: bool) -> Result<(), Refused> {
        let uid = self.uid;
        let beside = if is_operator && self.budget.may_operate(uid) { OPERATORS } else { 0 };
        let limit = self.budget.limits.sessions_per_uid;
        let mut open = self.budget.lock();
        let share = open.by_uid.entry(uid).or_default();
        if share.sessions >= limit + beside {
            return Err(Refused(format!("uid {uid} has {limit} sessions already (--max-sessions-per-uid)")));
        }
        share.sessions += 1;
        if let Some(connection) = share.connections.get_mut(&self.key) {
            connection.is_session = true;
        }
        Ok(())
    }

    fn pid(&self) -> i32 {
        let open = self.budget.lock();
        let connection = open.by_uid.get(&self.uid).and_then(|share| share.connections.get(&self.key));
        connection.map_or(0, |connection| connection.pid)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.budget.lock();
        let Some(share) = open.by_uid.get_mut(&self.uid) else { return };
        let Some(connection) = share.connections.remove(&self.key) else { return };
        share.sessions -= usize::from(connection.is_session);
        share.beside -= usize::from(connection.is_beside);
        share.sum_held(connection.held, Held::default());
        if share.connections.is_empty() {
            open.by_uid.remove(&self.uid);
        }
        open.held = moved(open.held, connection.held, Held::default());
        open.operators -= usize::from(connection.is_beside);
        open.total -= usize::from(!connection.is_evicted && !connection.is_beside);
    }
}

#[cfg(test)]
mod tests;
