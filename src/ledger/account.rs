// SPDX-License-Identifier: Apache-2.0
//! Accounts of clients: usage and quotas, by uid.

use super::{HeapIndex, HeapReserve, Refusal};
use crate::units::Uid;
use std::collections::{HashMap, HashSet};

/// Number of accounts from which those that hold nothing are dropped, so that a host with many uids
/// cannot fill the memory.
const MAX_IDLE_ACCOUNTS: usize = 4096;

/// Most buffers of a uid that holds few: one batch.
const FEW_BUFFERS: u64 = 64;

/// A uid's limit for resources that all uids share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// All of it.
    Favoured,
    /// All except the part for favoured uids.
    Few,
    /// All except the parts for favoured uids and for uids that hold few buffers.
    Many,
}

/// Name of the policy for uids that no policy names.
const DEFAULT_POLICY: &str = "default";

/// Quotas, reserves and privileges of all uids.
#[derive(Debug, Default)]
pub struct Limits {
    default: Quota,
    named: HashMap<Uid, Named>,
    reserves: Vec<(HeapIndex, HeapReserve)>,
    /// Uids for which a part of the shared resources is kept.
    favoured: HashSet<Uid>,
}

/// Most that a uid may hold at once; `None` for no limit.
#[derive(Debug, Clone, Copy, Default)]
struct Quota {
    bytes: Option<u64>,
    buffers: Option<u64>,
}

#[derive(Debug)]
struct Named {
    policy: String,
    quota: Quota,
    privileged: bool,
}

impl Limits {
    /// Makes limits for every uid that [`Limits::with_client`] does not name; `None` for no limit.
    pub fn new(max_bytes: Option<u64>, max_buffers: Option<u64>) -> Self {
        Self { default: Quota { bytes: max_bytes, buffers: max_buffers }, ..Self::default() }
    }

    /// Sets the limits of `uid`, from the policy called `policy`.
    #[must_use]
    pub fn with_client(
        mut self,
        uid: Uid,
        policy: &str,
        max_bytes: Option<u64>,
        max_buffers: Option<u64>,
        privileged: bool,
    ) -> Self {
        let quota = Quota { bytes: max_bytes, buffers: max_buffers };
        self.named.insert(uid, Named { policy: policy.to_owned(), quota, privileged });
        self
    }

    /// Keeps `bytes` of `heap` for `uid`: no other uid can use them.
    #[must_use]
    pub fn with_reserve(mut self, uid: Uid, heap: HeapIndex, bytes: u64) -> Self {
        self.reserves.push((heap, HeapReserve { uid, bytes }));
        self
    }

    /// Keeps a part of the shared resources for `uids`, independently of what other uids hold.
    #[must_use]
    pub fn with_favoured(mut self, uids: impl IntoIterator<Item = Uid>) -> Self {
        self.favoured.extend(uids);
        self
    }

    /// Returns the reserves of one heap.
    pub fn reserves_of(&self, heap: HeapIndex) -> Vec<HeapReserve> {
        self.reserves.iter().filter(|(of, _)| *of == heap).map(|(_, reserve)| *reserve).collect()
    }

    fn quota(&self, uid: Uid) -> Quota {
        self.named.get(&uid).map_or(self.default, |named| named.quota)
    }
}

/// The account of a uid, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The uid.
    pub uid: Uid,
    /// Name of its policy.
    pub policy: String,
    /// Bytes of its buffers, including those that are being allocated.
    pub bytes: u64,
    /// Number of its buffers, including those that are being allocated.
    pub buffers: u64,
    /// Bytes that it has reserved and not drawn. They count against its limits, too.
    pub reserved_bytes: u64,
    /// Highest value of `bytes` after a successful allocation.
    pub peak_bytes: u64,
    /// Byte limit; `None` for unlimited.
    pub max_bytes: Option<u64>,
    /// Buffer limit; `None` for unlimited.
    pub max_buffers: Option<u64>,
}

#[derive(Debug, Default)]
struct Account {
    /// All bytes that count against the limits: held, being allocated, and reserved.
    bytes: u64,
    buffers: u64,
    /// The part of `bytes` that is reserved and not drawn.
    reserved_bytes: u64,
    reserved_buffers: u64,
    peak_bytes: u64,
}

impl Account {
    fn held_bytes(&self) -> u64 {
        self.bytes - self.reserved_bytes
    }
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    limits: Limits,
    by_uid: HashMap<Uid, Account>,
}

impl Accounts {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, by_uid: HashMap::new() }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn check(&self, uid: Uid, bytes: u64, buffers: u64) -> Result<(), Refusal> {
        self.check_beside(self.held(uid), uid, bytes, buffers)
    }

    /// Checks as if the uid held nothing.
    pub(super) fn check_empty(&self, uid: Uid, bytes: u64, buffers: u64) -> Result<(), Refusal> {
        self.check_beside((0, 0), uid, bytes, buffers)
    }

    fn check_beside(
        &self,
        (held_bytes, held_buffers): (u64, u64),
        uid: Uid,
        bytes: u64,
        buffers: u64,
    ) -> Result<(), Refusal> {
        let quota = self.limits.quota(uid);
        let exceeds =
            |held: u64, asked: u64, limit: u64| held.checked_add(asked).is_none_or(|sum| sum > limit);
        if let Some(limit) = quota.bytes.filter(|limit| exceeds(held_bytes, bytes, *limit)) {
            return Err(Refusal::QuotaBytes { uid, asked: bytes, held: held_bytes, limit });
        }
        if let Some(limit) = quota.buffers.filter(|limit| exceeds(held_buffers, buffers, *limit)) {
            return Err(Refusal::QuotaBuffers { uid, asked: buffers, held: held_buffers, limit });
        }
        Ok(())
    }

    fn held(&self, uid: Uid) -> (u64, u64) {
        self.by_uid.get(&uid).map_or((0, 0), |account| (account.bytes, account.buffers))
    }

    pub(super) fn left(&self, uid: Uid) -> (Option<u64>, Option<u64>) {
        let quota = self.limits.quota(uid);
        let (bytes, buffers) = self.held(uid);
        (
            quota.bytes.map(|limit| limit.saturating_sub(bytes)),
            quota.buffers.map(|limit| limit.saturating_sub(buffers)),
        )
    }

    pub(super) fn book(&mut self, uid: Uid, bytes: u64, buffers: u64) {
        if self.by_uid.len() >= MAX_IDLE_ACCOUNTS && !self.by_uid.contains_key(&uid) {
            self.by_uid.retain(|_, account| account.buffers > 0);
        }
        let account = self.by_uid.entry(uid).or_default();
        account.bytes += bytes;
        account.buffers += buffers;
    }

    pub(super) fn unbook(&mut self, uid: Uid, bytes: u64, buffers: u64) {
        let Some(account) = self.by_uid.get_mut(&uid) else {
            debug_assert!(false, "uid {uid} was never booked");
            return;
        };
        account.bytes -= bytes;
        account.buffers -= buffers;
    }

    /// Marks booked buffers as reserved.
    pub(super) fn mark_reserved(&mut self, uid: Uid, bytes: u64, buffers: u64) {
        if let Some(account) = self.by_uid.get_mut(&uid) {
            account.reserved_bytes += bytes;
            account.reserved_buffers += buffers;
        }
    }

    /// Removes the mark as reserved; the buffers stay booked.
    pub(super) fn draw(&mut self, uid: Uid, bytes: u64, buffers: u64) {
        if let Some(account) = self.by_uid.get_mut(&uid) {
            account.reserved_bytes -= bytes;
            account.reserved_buffers -= buffers;
        }
    }

    pub(super) fn allocated(&mut self, uid: Uid) {
        if let Some(account) = self.by_uid.get_mut(&uid) {
            account.peak_bytes = account.peak_bytes.max(account.held_bytes());
        }
    }

    pub(super) fn usage(&self, uid: Uid) -> Usage {
        self.row(uid, self.by_uid.get(&uid).unwrap_or(&Account::default()))
    }

    pub(super) fn usages(&self) -> impl Iterator<Item = Usage> {
        self.by_uid.iter().map(|(uid, account)| self.row(*uid, account))
    }

    fn row(&self, uid: Uid, account: &Account) -> Usage {
        let quota = self.limits.quota(uid);
        let policy = self.limits.named.get(&uid).map_or(DEFAULT_POLICY, |named| &named.policy);
        Usage {
            uid,
            policy: policy.to_owned(),
            bytes: account.held_bytes(),
            buffers: account.buffers - account.reserved_buffers,
            reserved_bytes: account.reserved_bytes,
            peak_bytes: account.peak_bytes,
            max_bytes: quota.bytes,
            max_buffers: quota.buffers,
        }
    }

    /// Returns the part of the shared resources that `uid` may use once it has `buffers` more
    /// buffers.
    pub(super) fn standing(&self, uid: Uid, buffers: u64) -> Standing {
        let (_, held) = self.held(uid);
        match held.saturating_add(buffers) {
            _ if self.limits.favoured.contains(&uid) => Standing::Favoured,
            0..=FEW_BUFFERS => Standing::Few,
            _ => Standing::Many,
        }
    }

    pub(super) fn is_privileged(&self, uid: Uid) -> bool {
        self.limits.named.get(&uid).is_some_and(|named| named.privileged)
    }
}
