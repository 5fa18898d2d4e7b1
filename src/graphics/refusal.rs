// SPDX-License-Identifier: Apache-2.0
//! Failures to status codes: the only place that knows `AllocationError`.

use crate::allocator::{Explanation, Failure};
use crate::units::Invalid;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::AllocationError::AllocationError;
use anion_ipc::{Status, service_error};

/// Reason why there is no buffer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// A field has a value that is not served.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such image.
    #[error(transparent)]
    Image(#[from] anion_handle::Invalid),
    /// The deprecated call.
    #[error("this service does not read descriptors of mapper 4: use allocate2")]
    OldDescriptor,
    /// Nobody to charge.
    #[error("the transport cannot identify the caller")]
    UnknownCaller,
    /// No heap can serve it, ever. The heaps' answers.
    #[error("{0}")]
    Unsupported(String),
    /// No heap can serve it now. The heaps' answers.
    #[error("{0}")]
    NoResources(String),
}

impl Refusal {
    /// Returns why none of a request's heaps served it; `is_served` says whether one of them could
    /// while nothing is in use.
    pub(super) fn failed(explanations: &[Explanation], is_served: bool) -> Self {
        let message = explanations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if explanations.iter().any(|explanation| explanation.failure() == Some(Failure::Backend)) {
            log::error!("{message}");
        }
        if is_served { Self::NoResources(message) } else { Self::Unsupported(message) }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NoResources(_) => AllocationError::NO_RESOURCES,
            _ => AllocationError::UNSUPPORTED,
        };
        service_error(code.0, &refusal.to_string())
    }
}
