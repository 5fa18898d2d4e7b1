// SPDX-License-Identifier: Apache-2.0
//! The caller, which the kernel identifies.

use crate::CallerIdentity;
use binder::ThreadState;

/// Returns the caller of the transaction that this thread is serving; `None` outside a transaction.
pub fn calling_identity() -> Option<CallerIdentity> {
    ThreadState::is_handling_transaction().then(|| CallerIdentity {
        uid: ThreadState::get_calling_uid(),
        pid: ThreadState::get_calling_pid(),
        context: context(),
    })
}

/// Returns the caller's SELinux context, which [`features`](super::features) asks for.
#[cfg(not(any(android_vndk, android_ndk)))]
fn context() -> Option<String> {
    ThreadState::with_calling_sid(|context| context.map(|text| text.to_string_lossy().into_owned()))
}

/// Returns `None`: a vendor's process cannot ask for contexts, since the library of its partition
/// has no such call.
#[cfg(any(android_vndk, android_ndk))]
fn context() -> Option<String> {
    None
}
