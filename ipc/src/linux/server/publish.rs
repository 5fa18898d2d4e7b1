// SPDX-License-Identifier: Apache-2.0
//! Makes a binder object of a service value; the code differs between binder libraries.

use rsbinder::BinderFeatures;
use std::io;

/// Requirements of a binder object for its transport.
#[doc(hidden)]
pub type Features = BinderFeatures;

/// Result of a dump for the binder library.
#[doc(hidden)]
pub type DumpOutcome = rsbinder::Result<()>;

/// An argument of a dump, as the binder library passes it.
#[doc(hidden)]
pub type DumpArgument<'a> = String;

/// Returns the features of an object: the caller's SELinux context with every call, if the kernel
/// has one.
#[doc(hidden)]
pub fn features() -> Features {
    let mut features = BinderFeatures::default();
    features.set_requesting_sid = true;
    features
}

/// Returns the library's form of a dump's result.
#[doc(hidden)]
pub fn dump_outcome(written: io::Result<()>) -> DumpOutcome {
    written.map_err(rsbinder::StatusCode::from)
}

/// Returns the arguments of a dump as text.
#[doc(hidden)]
pub fn dump_arguments<'a>(arguments: &'a [DumpArgument<'_>]) -> &'a [String] {
    arguments
}

/// Makes a binder object: `new_binder!(BnFoo, service)` is a `Strong<dyn IFoo>` that any server can
/// publish. Calls contain the caller's SELinux context if the transport has one.
#[macro_export]
macro_rules! new_binder {
    ($native:ty, $service:expr) => {
        <$native>::new_binder_with_features($service, $crate::server::features())
    };
}
