// SPDX-License-Identifier: Apache-2.0
//! Replies on their way.
//!
//! The binder library closes its copies of the descriptors that a reply carried after the kernel
//! has taken the reply. A client may have them, close them and ask again, served by another thread,
//! before that: for this moment a buffer that no client has looks held. Before a call is refused
//! that would be served without it, the moment is waited for.
//!
//! No lock but `served` is taken here, a leaf that is held during no system call.

use super::Caller;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::sys::thread::{self, ThreadId};
use crate::units::Uid;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Between two looks at the threads.
const LOOK: Duration = Duration::from_micros(200);

/// The last caller that each thread served.
#[derive(Debug)]
pub(super) struct Replies {
    served: Mutex<BTreeMap<ThreadId, (Uid, Instant)>>,
    /// Time that threads may need to close the descriptors that they sent: they may have to wait
    /// for a processor.
    pub(super) patience: Duration,
    /// A reply that was on its way for longer is not waited for.
    pub(super) young: Duration,
}

impl Default for Replies {
    fn default() -> Self {
        Self { served: Mutex::default(), patience: Duration::from_millis(500), young: Duration::from_secs(1) }
    }
}

impl Replies {
    /// Notes that the calling thread is about to reply to `caller` with descriptors.
    pub(super) fn sending(&self, caller: &Caller, now: Instant) {
        let mut served = self.served();
        // Threads that are gone, or have not served for long.
        served.retain(|_, (_, since)| now.duration_since(*since) < self.young);
        served.insert(thread::id(), (caller.uid, now));
    }

    /// Waits until the threads that just served `caller` have closed what they sent: until they
    /// wait for something else. Returns at once, and false, if there are none.
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
