// SPDX-License-Identifier: Apache-2.0
//! Returns the caller, as the transport identifies it.

use crate::CallerIdentity;
use rsbinder::rpc::PeerIdentity;
use rsbinder::{Caller, calling_caller};

/// Returns the caller of the transaction that this thread serves; `None` if the transport cannot
/// identify a uid, and outside a transaction.
pub fn calling_identity() -> Option<CallerIdentity> {
    match calling_caller()? {
        Caller::Kernel { uid, pid, sid } => {
            Some(CallerIdentity { uid, pid, context: sid.map(|sid| sid.to_string_lossy().into_owned()) })
        }
        Caller::Rpc(PeerIdentity::Local { uid, pid }) => Some(CallerIdentity { uid, pid, context: None }),
        _ => None,
    }
}
