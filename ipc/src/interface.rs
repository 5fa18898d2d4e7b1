// SPDX-License-Identifier: Apache-2.0
//! Implements the interface that every binder object needs, for both binder libraries.

/// Implements `Interface` for a service type, with the text that binder's own dump writes:
/// `impl_interface!(Service, |service, writer, args: &[String]| service.dump(writer, args))`.
/// `service` is `&Service`, `writer` is `&mut dyn std::io::Write`, and the body is a
/// `std::io::Result<()>`. `impl_interface!(Service)` is for an object without a dump.
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
                arguments: &[$crate::server::DumpArgument<'_>],
            ) -> $crate::server::DumpOutcome {
                let $service = self;
                let $args = &$crate::server::dump_arguments(arguments)[..];
                $crate::server::dump_outcome($body)
            }
        }
    };
}
