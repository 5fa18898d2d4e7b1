// SPDX-License-Identifier: Apache-2.0
//! Serves over kernel binder.

use crate::Endpoint;
use binder::{BinderFeatures, FromIBinder, ProcessState, StatusCode, Strong};
use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Requirements of a binder object for its transport.
pub type Features = BinderFeatures;

/// Result of a dump for the binder library.
pub type DumpOutcome = std::result::Result<(), StatusCode>;

/// An argument of a dump, as the binder library passes it.
pub type DumpArgument<'a> = &'a CStr;

/// Returns the features of an object: the caller's SELinux context with every call.
#[cfg(not(any(android_vndk, android_ndk)))]
pub fn features() -> Features {
    Features { set_requesting_sid: true, ..Features::default() }
}

/// Returns no features: the vendor partition's library cannot request contexts.
#[cfg(any(android_vndk, android_ndk))]
pub fn features() -> Features {
    Features::default()
}

/// Returns the library's form of a dump's result.
pub fn dump_outcome(written: io::Result<()>) -> DumpOutcome {
    // The only expected failure is a reader that closed its end, and the library has no code for
    // it.
    written.map_err(|_error| StatusCode::FAILED_TRANSACTION)
}

/// Returns the arguments of a dump as text.
pub fn dump_arguments(arguments: &[DumpArgument<'_>]) -> Vec<String> {
    arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// A process that serves through its binder device. A process has only one: the library owns the
/// device.
pub struct KernelServer {
    device: PathBuf,
}

impl KernelServer {
    /// Prepares the process for up to `threads` concurrent calls. Serves nothing before
    /// [`Self::publish`].
    ///
    /// # Errors
    /// `Unsupported` if `device` is not the one that the library uses.
    pub fn open(device: &Path, threads: u32) -> io::Result<Self> {
        Endpoint::Binder(device.to_owned()).require_own_device()?;
        ProcessState::set_thread_pool_max_thread_count(threads);
        Ok(Self { device: device.to_owned() })
    }

    /// Returns the endpoint of the published services.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Binder(self.device.clone())
    }

    /// Serves `service` on the device's threads and registers it as `name`. The library itself
    /// waits for the service manager, and ignores `patience`. On a device no new service manager
    /// replaces the first.
    ///
    /// # Errors
    /// `PermissionDenied` if the service manager refuses: the name is not declared in the VINTF
    /// manifest, or the policy does not allow it.
    pub fn publish<I: FromIBinder + ?Sized>(
        &self,
        name: &str,
        service: &Strong<I>,
        _patience: Duration,
    ) -> io::Result<()> {
        ProcessState::start_thread_pool();
        binder::add_service(name, service.as_binder()).map_err(|code| {
            let why = format!("{}: the service manager refuses {name}: {code:?}", self.device.display());
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        })
    }
}

/// Makes a binder object: `new_binder!(BnFoo, service)` is a `Strong<dyn IFoo>` that a server can
/// publish.
#[macro_export]
macro_rules! new_binder {
    ($native:ty, $service:expr) => {
        <$native>::new_binder($service, $crate::server::features())
    };
}
