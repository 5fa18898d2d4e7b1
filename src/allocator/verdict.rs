// SPDX-License-Identifier: Apache-2.0
//! The answers of heaps to a request, and the result that follows from them. A failed allocation
//! and a dry run use the same text.

use super::Denied;
use crate::heap::Rejection;
use crate::ledger::{FailureCause, Refusal};
use crate::source::SourceError;
use crate::units::{Count, HeapId, RequestedBytes};
use std::fmt;

/// One heap's answer.
#[derive(Debug)]
pub struct Verdict {
    /// The heap's id; `None` if no heap has the name.
    pub heap_id: Option<HeapId>,
    /// The heap's name, or the name that no heap has.
    pub heap_name: String,
    /// Its answer.
    pub outcome: Outcome,
    /// Size in bytes of the largest buffer that it could serve now, for the request's count.
    pub fits_bytes: u64,
}

/// The answer of a heap.
#[derive(Debug)]
pub enum Outcome {
    /// It would serve the request.
    WouldServe,
    /// There is no such heap.
    UnknownHeap,
    /// The caller may not use it.
    Denied(Denied),
    /// It does not accept this request, independently of its room.
    Rejected(Rejection),
    /// It has no room, or the caller no quota.
    Refused(Refusal),
    /// Its source failed.
    Failed(SourceError),
}

/// The result of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No heap matched.
    UnknownHeap,
    /// The matching heaps are closed to the caller.
    NotPermitted,
    /// The matching heaps cannot make this kind of buffer.
    Unsupported,
    /// The last heap tried had no room or memory.
    NoMemory,
    /// The last heap tried met the caller's quota.
    QuotaExceeded,
    /// The source of the last heap tried failed.
    Backend,
}

impl Outcome {
    /// Returns the failure of a request if this heap decides; `None` if it would serve.
    pub fn failure(&self) -> Option<Failure> {
        Some(match self {
            Self::WouldServe => return None,
            Self::UnknownHeap => Failure::UnknownHeap,
            Self::Denied(_) => Failure::NotPermitted,
            Self::Rejected(Rejection::TooLarge { .. }) => Failure::NoMemory,
            Self::Rejected(_) => Failure::Unsupported,
            Self::Refused(refusal) if refusal.is_quota() => Failure::QuotaExceeded,
            Self::Refused(_) => Failure::NoMemory,
            Self::Failed(error) if error.is_exhaustion() => Failure::NoMemory,
            Self::Failed(_) => Failure::Backend,
        })
    }

    /// Returns the failure counter of the heap that counts this outcome; `None` if the heap did not
    /// fail.
    pub fn cause(&self) -> Option<FailureCause> {
        Some(match self.failure()? {
            Failure::UnknownHeap => return None,
            Failure::NotPermitted => FailureCause::NotPermitted,
            Failure::Unsupported => FailureCause::Unsupported,
            Failure::NoMemory => FailureCause::NoMemory,
            Failure::QuotaExceeded => FailureCause::Quota,
            Failure::Backend => FailureCause::Backend,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldServe => f.write_str("would serve"),
            Self::UnknownHeap => f.write_str("no heap has this name"),
            Self::Denied(denied) => denied.fmt(f),
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Failure {
    /// Returns the priority of a failure. As in ION, heaps that were tried outweigh skipped heaps;
    /// among equals the last one decides.
    fn rank(self) -> u8 {
        match self {
            Self::UnknownHeap => 0,
            Self::Unsupported => 1,
            Self::NotPermitted => 2,
            Self::NoMemory | Self::QuotaExceeded | Self::Backend => 3,
        }
    }
}

/// Every selected heap's answer to one request.
#[derive(Debug)]
pub struct Explanation {
    /// Bytes of one buffer, as requested.
    pub bytes: RequestedBytes,
    /// The number of buffers.
    pub count: Count,
    /// The answers in the order in which heaps are tried.
    pub verdicts: Vec<Verdict>,
}

impl Explanation {
    /// Returns the heap that would serve the request.
    pub fn chosen(&self) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| matches!(verdict.outcome, Outcome::WouldServe))
    }

    /// Returns the failure of the request; `None` if a heap would serve it.
    pub fn failure(&self) -> Option<Failure> {
        if self.chosen().is_some() {
            return None;
        }
        let failures = self.verdicts.iter().filter_map(|verdict| verdict.outcome.failure());
        Some(failures.max_by_key(|failure| failure.rank()).unwrap_or(Failure::UnknownHeap))
    }
}

/// Formats one line: the request, then every heap with its answer.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = format!("{} x {} bytes", self.count.get(), self.bytes.0);
        match self.chosen() {
            Some(verdict) => write!(f, "heap {} would serve {request}", verdict.heap_name)?,
            None if self.verdicts.is_empty() => {
                return write!(f, "no heap can serve {request}: the mask selects none that is configured");
            }
            None => write!(f, "no heap can serve {request}")?,
        }
        for (index, verdict) in self.verdicts.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            match verdict.heap_id {
                Some(id) => write!(f, "{} ({id}): {}", verdict.heap_name, verdict.outcome)?,
                None => write!(f, "{:?}: {}", verdict.heap_name, verdict.outcome)?,
            }
            if verdict.fits_bytes > 0 && !matches!(verdict.outcome, Outcome::WouldServe) {
                write!(f, " (up to {} bytes each would fit)", verdict.fits_bytes)?;
            }
        }
        Ok(())
    }
}
