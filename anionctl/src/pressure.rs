// SPDX-License-Identifier: Apache-2.0
//! Follows the service's memory pressure: by callbacks if the service can call this process, else
//! by polling.

use crate::Service;
use crate::failure::Failure;
use anion_ipc::{ServiceError, Strong, impl_interface, new_binder};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use vendor_anion_allocator::aidl::vendor::anion::allocator::ErrorCode::ErrorCode;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IPressureListener::{
    BnPressureListener, IPressureListener,
};
use vendor_anion_allocator::aidl::vendor::anion::allocator::PressureLevel::PressureLevel;

/// The last known pressure level of the service.
pub(crate) struct Pressure {
    told: Arc<Told>,
    /// Keeps the registered object alive; `None` if the service cannot call it.
    _listener: Option<Strong<dyn IPressureListener>>,
}

/// The levels that the service reported since the last check.
#[derive(Default)]
struct Told {
    peak: AtomicI32,
}

struct Listener(Arc<Told>);

impl_interface!(Listener, |_listener, _writer, _args: &[String]| Ok(()));

impl IPressureListener for Listener {
    fn onPressure(&self, level: PressureLevel) -> anion_ipc::Result<()> {
        self.0.peak.fetch_max(level.0, Ordering::Relaxed);
        Ok(())
    }
}

impl Pressure {
    /// Registers a listener with the service. If that is impossible, each check queries the
    /// service.
    ///
    /// # Errors
    /// If the service can no longer be reached.
    pub(crate) fn follow(service: &Service) -> Result<Self, Failure> {
        let told = Arc::new(Told::default());
        let listener: Strong<dyn IPressureListener> =
            new_binder!(BnPressureListener, Listener(Arc::clone(&told)));
        match service.interface().registerPressureListener(&listener) {
            Ok(()) => Ok(Self { told, _listener: Some(listener) }),
            Err(status) => match ServiceError::of(&status).map(|error| ErrorCode(error.code)) {
                Some(ErrorCode::UNSUPPORTED | ErrorCode::QUOTA_EXCEEDED | ErrorCode::NO_MEMORY) => {
                    log::warn!(
                        "the service sends no pressure events, so every report queries the level: {status}"
                    );
                    Ok(Self { told, _listener: None })
                }
                _ => Err(status.into()),
            },
        }
    }

    /// Returns the current level, and the highest one since the last check.
    ///
    /// # Errors
    /// If the service does not answer.
    pub(crate) fn look(&self, service: &Service) -> Result<(PressureLevel, PressureLevel), Failure> {
        let now = service.interface().getPressure()?;
        let peak = self.told.peak.swap(now.0, Ordering::Relaxed).max(now.0);
        Ok((now, PressureLevel(peak)))
    }
}
