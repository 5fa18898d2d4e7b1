// SPDX-License-Identifier: Apache-2.0
//! Replies in flight.
//!
//! The binder library closes its copies of a reply's descriptors after the kernel has taken the
//! reply. Before that, a client may already get them, close them and call again, served by another
//! thread. For this moment a buffer that no client holds seems to be held. Before a call is
//! refused, it waits for this moment to pass.
//!
//! This module takes only the lock `served`, a leaf that is never held during a system call.

use super::Caller;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::sys::thread::{self, ThreadId};
use crate::units::Uid;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Pause between two checks of the threads.
const LOOK: Duration = Duration::from_micros(200);

/// The last caller that each thread served, with the time.
#[derive(Debug)]
pub(super) struct Replies {
    served: Mutex<BTreeMap<ThreadId, (Uid, Instant)>>,
    /// Time that threads get to close the descriptors that they sent: they may have to wait for a
    /// processor.
    pub(super) patience: Duration,
    /// Age from which a reply is not waited for.
    pub(super) young: Duration,
}

impl Default for Replies {
    fn default() -> Self {
        Self { served: Mutex::default(), patience: Duration::from_millis(500), young: Duration::from_secs(1) }
    }
}

impl Replies {
    /// Records that the calling thread is about to reply to `caller` with descriptors.
    pub(super) fn sending(&self, caller: &Caller, now: Instant) {
        let mut served = self.served();
        // Removes threads that ended or have not served for long.
        served.retain(|_, (_, since)| now.duration_since(*since) < self.young);
        served.insert(thread::id(), (caller.uid, now));
    }

    /// Waits until the threads that just served `caller` have closed the descriptors that they
    /// sent: until they wait for something else. Returns false at once if there are no such
    /// threads.
    pub(super) fn await_sent(&self, caller: &Caller) -> bool {
        let (own, start) = (thread::id(), Instant::now());
        let mut sending: Vec<ThreadId> = self
            .served()
            .iter()
            .filter(|(id, (uid, since))| {
                **id != own && *uid == caller.uid && start.duration_since(*since) < self.young
            })
            .map(|(id, _)| *id)
            .collect();
        sending.retain(|id| thread::is_running(*id));
        let has_any = !sending.is_empty();
        while !sending.is_empty() && start.elapsed() < self.patience {
            std::thread::sleep(LOOK);
            sending.retain(|id| thread::is_running(*id));
        }
        has_any
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<ThreadId, (Uid, Instant)>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
