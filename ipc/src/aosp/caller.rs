// SPDX-License-Identifier: Apache-2.0
//! Returns the caller, as the kernel identifies it.

use crate::CallerIdentity;
use binder::ThreadState;

/// Returns the caller of the transaction that this thread serves; `None` outside a transaction.
pub fn calling_identity() -> Option<CallerIdentity> {
    ThreadState::is_handling_transaction().then(|| CallerIdentity {
        uid: ThreadState::get_calling_uid(),
        pid: ThreadState::get_calling_pid(),
        context: context(),
    })
}

/// Returns the caller's SELinux context, which [`features`](super::features) requests.
#[cfg(not(any(android_vndk, android_ndk)))]
fn context() -> Option<String> {
    ThreadState::with_calling_sid(|context| context.map(|text| text.to_string_lossy().into_owned()))
}

/// Returns `None`: the vendor partition's library has no call for contexts.
#[cfg(any(android_vndk, android_ndk))]
fn context() -> Option<String> {
    None
}
