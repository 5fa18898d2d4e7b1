// SPDX-License-Identifier: Apache-2.0
//! Reasons why one source, or no source, can serve a heap.

use crate::source::ashmem::NoAshmem;
use crate::source::carveout::ReserveError;
use crate::source::dma_heap::NoDmaHeap;
use crate::source::hugetlb::NoHugePages;
use crate::source::ion::NoIon;
use crate::source::release::ReleaseError;
use crate::source::udmabuf::NoUdmabuf;
use crate::units::Invalid;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Reason why a source cannot serve a heap on this machine.
#[derive(Debug, thiserror::Error)]
pub enum NoSource {
    /// The dma-heap cannot be used.
    #[error(transparent)]
    DmaHeap(#[from] NoDmaHeap),
    /// ION cannot be used.
    #[error(transparent)]
    Ion(#[from] NoIon),
    /// dma-bufs of the service's own memory cannot be made.
    #[error(transparent)]
    Udmabuf(#[from] NoUdmabuf),
    /// ashmem cannot be used.
    #[error(transparent)]
    Ashmem(#[from] NoAshmem),
    /// Huge pages cannot be used. All heaps that need some share the reason.
    #[error("{}", with_causes(.0.as_ref()))]
    HugePages(Arc<NoHugePages>),
    /// Clients would hold its files directly, and the kernel does not report their release. All
    /// heaps that need such files share the reason.
    #[error("its releases cannot be detected: {}", with_causes(.0.as_ref()))]
    Releases(Arc<ReleaseError>),
    /// The heap's size cannot be set aside.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// The configuration leads to an invalid size.
    #[error(transparent)]
    Size(#[from] Invalid),
    /// The kernel does not provide the memory for blocks.
    #[error(transparent)]
    Blocks(#[from] io::Error),
    /// The heap is secure, but this memory can be mapped.
    #[error("only the kernel's own heaps give secure memory")]
    NotSecure,
    /// The heap's buffers must be physically contiguous, but this memory is not.
    #[error("its memory is contiguous only within a page; hugetlb gives larger pieces")]
    NotContiguous,
    /// The heap has no fixed size.
    #[error("ashmem memory cannot be set aside; use memfd")]
    NotSetAside,
    /// It works, but had no free memory when it was tested.
    #[error("it has no memory left")]
    Exhausted,
}

/// A source that cannot be used.
#[derive(Debug)]
pub(super) struct PassedOver {
    /// Its word in the configuration.
    pub(super) device: String,
    pub(super) why: NoSource,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.device, self.why)
    }
}

/// Returns the sources in one line, with their reasons.
pub(super) fn listed(passed_over: &[PassedOver]) -> String {
    passed_over.iter().map(PassedOver::to_string).collect::<Vec<_>>().join("; ")
}

/// Reason why no source serves a heap.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    /// The configuration excludes it on any machine, for this reason.
    #[error("{0}")]
    Configured(String),
    /// None of its configured sources works.
    #[error("{}", reasons(.0))]
    NoneWorks(Vec<PassedOver>),
    /// As `NoneWorks`, for a heap that may only have the kernel's contiguous memory.
    #[error(
        "contiguous memory comes from the kernel's CMA; {}; device = \"auto\", \"memfd\" would set memory aside at \
         the start where the kernel has none", reasons(.0)
    )]
    NoContiguous(Vec<PassedOver>),
    /// A custom heap names no sources.
    #[error("it has no list of sources")]
    NoList,
    /// None of a custom heap's sources works.
    #[error("none of its sources is available: {}", listed(.0))]
    NoneOfList(Vec<PassedOver>),
}

fn reasons(passed_over: &[PassedOver]) -> String {
    match passed_over {
        [one] => one.why.to_string(),
        several => format!("none of its devices works: {}", listed(several)),
    }
}

/// Returns an error's text followed by its causes.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
