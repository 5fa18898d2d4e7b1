// SPDX-License-Identifier: Apache-2.0
//! The types generated from `aidl/platform/`, under the path that the platform's build gives those
//! of `android.hardware.graphics.allocator`. What they import is in the same crate, where the
//! platform has a crate for each package.

/// Generated code.
#[allow(missing_docs, unreachable_pub, unused, clippy::all, reason = "as the AIDL compiler writes it")]
pub mod aidl {
    include!("../generated/android_hardware_graphics_allocator.rs");
}
