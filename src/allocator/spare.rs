// SPDX-License-Identifier: Apache-2.0
//! Metadata files between two clients of one trust domain: making one takes as long as taking a
//! buffer from a pool. They are in no uid's account, as pooled memory, and are dropped when it is.

use super::metadata::MetadataFile;
use crate::pool::TrustDomain;
use crate::sys::lock::Mutex;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

/// Most files that are kept; each has a descriptor and a page.
const MOST: usize = 64;

/// A file that no client holds.
struct Spare {
    domain: TrustDomain,
    file: MetadataFile,
    /// Time since boot when it was released.
    since: Duration,
}

/// The files, the oldest first. The lock is a leaf, and no system call is made while it is held.
#[derive(Default)]
pub(super) struct SpareMetadata(Mutex<VecDeque<Spare>>);

impl SpareMetadata {
    /// Keeps a file that a client of `domain` has released, at time `now` (since boot). If there
    /// are too many, it drops the oldest.
    pub(super) fn put(&self, domain: TrustDomain, file: MetadataFile, now: Duration) {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if spares.len() < MOST { None } else { spares.pop_front() };
        spares.push_back(Spare { domain, file, since: now });
        drop(spares);
        drop(oldest);
    }

    /// Takes the file of `bytes` bytes that a client of `domain` released last.
    pub(super) fn take(&self, domain: &TrustDomain, bytes: u64) -> Option<MetadataFile> {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |spare: &Spare| spare.domain == *domain && spare.file.bytes == bytes;
        let at = spares.iter().rposition(fits)?;
        spares.remove(at).map(|spare| spare.file)
    }

    /// Drops the files that were released before `deadline` (since boot). Returns whether others
    /// are kept.
    pub(super) fn expire(&self, deadline: Duration) -> bool {
        let mut spares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = spares.partition_point(|spare| spare.since < deadline);
        let kept = spares.split_off(late);
        let expired = std::mem::replace(&mut *spares, kept);
        let is_any = !spares.is_empty();
        drop(spares);
        drop(expired);
        is_any
    }

    /// Drops all files.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }
}
