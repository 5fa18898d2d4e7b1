// SPDX-License-Identifier: Apache-2.0
//! Converts failures to status codes. No other module uses `AllocationError`.

use crate::allocator::{Explanation, Failure};
use crate::units::Invalid;
use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::AllocationError::AllocationError;
use anion_ipc::{Status, service_error};

/// Reason why there is no buffer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// A field has an unsupported value.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The image is invalid.
    #[error(transparent)]
    Image(#[from] anion_handle::Invalid),
    /// The call is deprecated.
    #[error("this service does not read descriptors of mapper 4: use allocate2")]
    OldDescriptor,
    /// The caller is unknown, so no uid can be charged.
    #[error("the transport cannot identify the caller")]
    UnknownCaller,
    /// No heap can ever serve it. Contains the heaps' answers.
    #[error("{0}")]
    Unsupported(String),
    /// No heap can serve it now. Contains the heaps' answers.
    #[error("{0}")]
    NoResources(String),
}

impl Refusal {
    /// Returns the reason why none of a request's heaps served it. `is_served`: whether one of them
    /// could serve it while no memory is in use.
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
