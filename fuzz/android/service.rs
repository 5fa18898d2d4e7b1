// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the calls of the service with AOSP's generator of parcels: the service answers each.

#![no_main]

use anion_ipc::Strong;
use binder_random_parcel_rs::fuzz_service;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The service of all inputs: its threads stay.
static SERVICE: LazyLock<Strong<dyn IHeapAllocator>> = LazyLock::new(|| {
    anion::daemon::fuzzed_service().unwrap_or_else(|error| panic!("there is no service: {error:#}"))
});

fuzz_target!(|bytes: &[u8]| fuzz_service(&mut SERVICE.as_binder(), bytes));
