// SPDX-License-Identifier: Apache-2.0
//! The types generated from `aidl/vendor/anion/allocator/`, under the path that AOSP's build gives
//! them: `vendor_anion_allocator::aidl::vendor::anion::allocator`. The contract is written in the
//! `.aidl` files.

/// Generated code.
#[allow(missing_docs, unreachable_pub, unused, clippy::all, reason = "as the AIDL compiler writes it")]
pub mod aidl {
    include!("../generated/vendor_anion_allocator.rs");
}
