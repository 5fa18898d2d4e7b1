// SPDX-License-Identifier: Apache-2.0
//! Who is calling, as the transport vouches for it.

use rsbinder::rpc::PeerIdentity;
use rsbinder::{Caller, calling_caller};

/// The process behind the call that this thread is serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// Effective uid: binder's for a kernel call, the socket peer's at connect time for an RPC call.
    pub uid: u32,
    /// Process id, for people only: it can be reused. 0 if the transport does not tell.
    pub pid: i32,
    /// SELinux context, where the transport delivers one.
    pub context: Option<String>,
}

/// The caller of the transaction that this thread is serving; `None` if the transport cannot vouch for a uid, and
/// outside a transaction.
pub fn calling_identity() -> Option<CallerIdentity> {
    match calling_caller()? {
        Caller::Kernel { uid, pid, sid } => {
            Some(CallerIdentity { uid, pid, context: sid.map(|sid| sid.to_string_lossy().into_owned()) })
        }
        Caller::Rpc(PeerIdentity::Local { uid, pid }) => Some(CallerIdentity { uid, pid, context: None }),
        _ => None,
    }
}
