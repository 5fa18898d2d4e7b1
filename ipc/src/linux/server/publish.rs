// SPDX-License-Identifier: Apache-2.0
//! Turning a service value into a binder object: the two places where binder libraries want different code.

use rsbinder::BinderFeatures;
use std::io;

/// What a binder object asks of its transport.
#[doc(hidden)]
pub type Features = BinderFeatures;

/// What the binder library wants back from a dump.
#[doc(hidden)]
pub type DumpOutcome = rsbinder::Result<()>;

/// The caller's SELinux context with every call, where the kernel has one.
#[doc(hidden)]
pub fn features() -> Features {
    let mut features = BinderFeatures::default();
    features.set_requesting_sid = true;
    features
}

/// The library's form of a dump's result.
#[doc(hidden)]
pub fn dump_outcome(written: io::Result<()>) -> DumpOutcome {
    written.map_err(rsbinder::StatusCode::from)
}

/// Makes a binder object: `new_binder!(BnFoo, service)` is a `Strong<dyn IFoo>` that any server can publish.
/// Calls carry the caller's SELinux context where the transport has one.
#[macro_export]
macro_rules! new_binder {
    ($native:ty, $service:expr) => {
        <$native>::new_binder_with_features($service, $crate::server::features())
    };
}

/// Implements `Interface` for a service type, with the text that binder's own dump writes:
/// `impl_interface!(Service, |service, writer, args: &[String]| service.dump(writer, args))`. `service` is
/// `&Service`, `writer` is `&mut dyn std::io::Write`, and the body is a `std::io::Result<()>`.
/// `impl_interface!(Service)` is for an object that has nothing to dump.
#[macro_export]
macro_rules! impl_interface {
    ($type:ty) => {
        impl $crate::Interface for $type {}
    };
    ($type:ty, |$service:ident, $writer:ident, $args:ident: &[String]| $body:expr) => {
        impl $crate::Interface for $type {
            fn dump(
                &self,
                $writer: &mut dyn ::std::io::Write,
                $args: &[::std::string::String],
            ) -> $crate::server::DumpOutcome {
                let $service = self;
                $crate::server::dump_outcome($body)
            }
        }
    };
}
