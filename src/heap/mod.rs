// SPDX-License-Identifier: Apache-2.0
//! Floor 5: heaps. A heap is a named policy over a source: which requests it accepts, how it rounds
//! sizes, which uids may use it. Its [`Pool`] owns its room and its memory between two clients.

mod build;
mod choice;
mod devices;
mod discard;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
mod join;
mod machine;
mod pool;
mod set_aside;
#[cfg(test)]
mod tests;
mod unavailable;

pub use build::build;
pub use devices::KernelDevices;
#[cfg(test)]
pub(crate) use devices::scripted;
pub use discard::Discard;
pub use machine::Machine;
pub use pool::{IDLE, Leftover, Pool, PoolCounters, Released, Served, Stored, Taken, Wanted, discard};
#[cfg(test)]
pub use set_aside::Fragmentation;
pub use set_aside::SetAside;

use crate::config::spec::HeapSpec;
use crate::pool::TrustDomain;
use crate::source::{Capabilities, Memory, Opened, ReleaseMechanism, SourceError};
use crate::sys::fd::Inode;
use crate::units::{Access, BackedBytes, Backing, HeapId, HeapName, Label, PageSize, RequestedBytes, Uid};
use join::{Joined, Joiner};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A configured heap on this machine.
pub struct Heap {
    spec: HeapSpec,
    page: PageSize,
    file_releases: ReleaseMechanism,
    serving: Serving,
    pool: Pool,
    /// Requests that failed because of fragmentation.
    fragmented: AtomicU64,
}

enum State {
    Ready {
        opened: Opened,
        max_buffer: MaxBuffer,
        /// The skipped sources, each with the reason.
        passed_over: Vec<String>,
    },
    Unavailable(String),
}

/// A source that serves a heap, and the source that replaced it later.
struct Serving {
    state: State,
    later: OnceLock<Box<Serving>>,
}

impl Serving {
    fn new(state: State) -> Self {
        Self { state, later: OnceLock::new() }
    }

    /// Returns the latest.
    fn last(&self) -> &Self {
        let mut last = self;
        while let Some(later) = last.later.get() {
            last = later;
        }
        last
    }
}

/// The largest buffer, and the reason of the limit.
struct MaxBuffer {
    bytes: u64,
    why: &'static str,
}

/// Requirements of a request. They do not depend on the room of a heap.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Bytes of one buffer.
    pub bytes: RequestedBytes,
    /// Alignment in bytes; 0 for the heap's own.
    pub alignment: u64,
    /// Whether CPU mappings must be cached.
    pub cached: bool,
    /// Whether only dma-bufs are accepted.
    pub dma_buf: bool,
    /// Access mode of the descriptors.
    pub access: Access,
}

/// Reason why a heap does not accept a request, independently of its room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The heap is not available on this machine.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It cannot make this kind of buffer.
    #[error("{0}")]
    Unsupported(String),
    /// The buffer is larger than the heap's largest buffer.
    #[error("{asked} bytes asked, but one buffer can have at most {limit}, {why}")]
    TooLarge {
        /// Requested bytes.
        asked: i64,
        /// Size of the largest buffer in bytes.
        limit: u64,
        /// The reason of the limit.
        why: &'static str,
    },
}

impl Heap {
    /// Returns its configuration.
    pub fn spec(&self) -> &HeapSpec {
        &self.spec
    }

    /// Returns its id: its bit in masks, and its priority.
    pub fn id(&self) -> HeapId {
        self.spec.id
    }

    /// Returns its name.
    pub fn name(&self) -> &HeapName {
        &self.spec.name
    }

    /// Returns whether `name` is its name or one of its aliases.
    pub fn answers_to(&self, name: &str) -> bool {
        std::iter::once(&self.spec.name).chain(&self.spec.aliases).any(|own| own.as_str() == name)
    }

    /// Returns whether the configuration permits `uid` to allocate from it.
    pub fn admits(&self, uid: Uid) -> bool {
        self.spec.allow_uids.as_ref().is_none_or(|uids| uids.contains(&uid))
    }

    fn state(&self) -> &State {
        &self.serving.last().state
    }

    /// Returns why nothing can be allocated from it on this machine; `None` if it is available.
    pub fn unavailable(&self) -> Option<&str> {
        match self.state() {
            State::Ready { .. } => None,
            State::Unavailable(why) => Some(why),
        }
    }

    /// Returns the skipped sources in one line, each with the reason why it cannot be used here:
    /// the sources that the configuration prefers to, or wants beside, the ones that serve the
    /// heap. Empty if there is none, and for an unavailable heap.
    pub fn passed_over(&self) -> String {
        match self.state() {
            State::Ready { passed_over, .. } => passed_over.join("; "),
            State::Unavailable(_) => String::new(),
        }
    }

    /// Returns whether its buffers may be of this kind.
    pub fn makes(&self, backing: Backing) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.backings.contains(&backing))
    }

    /// Returns the kind of its buffers, or the first kind if its sources differ. For an unavailable
    /// heap, returns the intended kind, as far as the configuration states it.
    pub fn backing(&self) -> Backing {
        let first = self.capabilities().and_then(|capabilities| capabilities.backings.first().copied());
        first.unwrap_or_else(|| build::intended_backing(&self.spec))
    }

    /// Returns the release mechanism of each kind of its buffers; none if it is unavailable.
    pub fn release_mechanisms(&self) -> Vec<(Backing, ReleaseMechanism)> {
        let here = |mechanism| match mechanism {
            ReleaseMechanism::CloseEvents => self.file_releases,
            other => other,
        };
        let backings = self.capabilities().into_iter().flat_map(|capabilities| &capabilities.backings);
        backings.map(|backing| (*backing, here(ReleaseMechanism::of(*backing)))).collect()
    }

    /// Returns the weakest of [`Heap::release_mechanisms`]; for an unavailable heap the intended
    /// one.
    pub fn release_mechanism(&self) -> ReleaseMechanism {
        let mechanisms = self.release_mechanisms().into_iter().map(|(_, mechanism)| mechanism);
        mechanisms.max().unwrap_or_else(|| ReleaseMechanism::of(self.backing()))
    }

    /// Returns the machine's page size.
    pub fn page(&self) -> PageSize {
        self.page
    }

    /// Returns how many bytes it can have in use at once; `None` if only the machine's memory
    /// limits it.
    pub fn capacity(&self) -> Option<u64> {
        self.spec.size
    }

    /// Returns the allocation granularity: sizes are rounded up to a multiple of this many bytes.
    pub fn granularity(&self) -> u64 {
        let source = self.capabilities().map_or(0, |capabilities| capabilities.granularity);
        self.spec.chunk_size.unwrap_or(0).max(self.spec.alignment).max(self.page.bytes()).max(source)
    }

    fn opened(&self) -> Option<&Opened> {
        match self.state() {
            State::Ready { opened, .. } => Some(opened),
            State::Unavailable(_) => None,
        }
    }

    fn capabilities(&self) -> Option<&Capabilities> {
        self.opened().map(|opened| &opened.capabilities)
    }

    /// Returns the most descriptors of the service that one of its buffers uses.
    pub fn descriptors(&self) -> u64 {
        self.capabilities().map_or(1, |capabilities| capabilities.descriptors)
    }

    /// Returns whether it runs short of memory only when the machine does.
    pub fn is_machine_memory(&self) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.is_machine_memory)
    }

    /// Returns whether it can make buffers with this access mode.
    pub fn gives(&self, access: Access) -> bool {
        access == Access::ReadWrite || self.capabilities().is_none_or(|capabilities| capabilities.read_only)
    }

    /// Returns the largest alignment in bytes that a request may have: that of the memory's
    /// physical pieces.
    pub fn max_alignment(&self) -> u64 {
        self.capabilities().map_or(self.page.bytes(), |capabilities| capabilities.max_alignment)
    }

    /// Returns whether every buffer is in one physical piece.
    pub fn is_contiguous(&self) -> bool {
        let contiguous = self.capabilities().map(|capabilities| capabilities.contiguous_bytes);
        contiguous.is_some_and(|bytes| self.max_buffer_bytes() <= bytes)
    }

    /// Returns the most bytes of one buffer.
    pub fn max_buffer_bytes(&self) -> u64 {
        match self.state() {
            State::Ready { max_buffer, .. } => max_buffer.bytes,
            State::Unavailable(_) => 0,
        }
    }

    /// Returns the size of a buffer for this request, if the heap accepts it. It does not check the
    /// room.
    ///
    /// # Errors
    /// The first reason to reject it.
    pub fn accept(&self, needs: &Needs) -> Result<BackedBytes, Rejection> {
        let (capabilities, max_buffer) = match self.state() {
            State::Ready { opened, max_buffer, .. } => (&opened.capabilities, max_buffer),
            State::Unavailable(why) => return Err(Rejection::Unavailable(why.clone())),
        };
        let unsupported = |why: String| Err(Rejection::Unsupported(why));
        if needs.dma_buf && !capabilities.gives_dma_bufs() {
            return unsupported(format!(
                "its buffers are not dma-bufs, or not all: {}",
                self.backing().name()
            ));
        }
        if needs.alignment > capabilities.max_alignment {
            return unsupported(format!(
                "alignment is {}, but at most {} can be promised",
                needs.alignment, capabilities.max_alignment
            ));
        }
        if needs.cached && !self.spec.cached {
            return unsupported("its mappings are not cached".to_owned());
        }
        if !self.gives(needs.access) {
            return unsupported("all of its buffers are writable".to_owned());
        }
        match needs.bytes.round_up(self.granularity()) {
            Ok(bytes) if bytes.get() <= max_buffer.bytes => Ok(bytes),
            _ => Err(Rejection::TooLarge {
                asked: needs.bytes.0,
                limit: max_buffer.bytes,
                why: max_buffer.why,
            }),
        }
    }

    /// Returns the identity of the file behind `fd`, as
    /// [`Source::identify`](crate::source::Source::identify).
    pub fn identify(&self, fd: BorrowedFd<'_>) -> Option<Inode> {
        self.opened()?.source.identify(fd)
    }

    /// Returns its pool: its room and its memory between two clients.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes zeroed memory of `bytes` bytes, which [`Heap::accept`] returned and the ledger booked,
    /// for clients that get this access. A memfd is called `anion:HEAP:LABEL` in /proc, or
    /// `anion:HEAP` if it is made before a client requests it. The kernel does not rename it, so it
    /// keeps this name in the pool and for later clients.
    ///
    /// # Errors
    /// The source's; `NotFound` if the heap is unavailable.
    pub fn create(
        &self,
        bytes: BackedBytes,
        access: Access,
        label: Option<&Label>,
    ) -> Result<Box<dyn Memory>, SourceError> {
        match self.state() {
            State::Ready { opened, .. } => {
                let label = label.map_or_else(String::new, |label| format!(":{label}"));
                let name = format!("anion:{}{label}", self.name());
                let memory = opened.source.create(bytes, access, &name)?;
                if !self.spec.client_seals {
                    memory.close_seals()?;
                }
                Ok(memory)
            }
            State::Unavailable(why) => Err(io::Error::new(io::ErrorKind::NotFound, why.clone()).into()),
        }
    }

    /// Makes memory as [`Heap::create`] does, at time `now` (since boot), for a client of `domain`.
    /// It joins pooled memory of other sizes as far as possible. `None` if the heap makes every
    /// buffer whole.
    ///
    /// # Errors
    /// The source's.
    pub fn join(
        &self,
        bytes: BackedBytes,
        domain: &TrustDomain,
        now: Duration,
    ) -> Option<Result<Joined, SourceError>> {
        let source = self.opened()?.blocks.as_deref().filter(|_| self.pool.is_kept())?;
        Some(Joiner { source, pool: &self.pool, domain, now }.join(bytes))
    }
}
