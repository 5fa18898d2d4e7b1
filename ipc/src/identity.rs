// SPDX-License-Identifier: Apache-2.0
//! The caller, which the transport identifies.

/// The process behind the call that this thread is serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// Effective uid: binder's for a kernel call, the socket peer's at connect time for an RPC
    /// call.
    pub uid: u32,
    /// Process id, for people only: it can be reused. 0 if the transport does not tell.
    pub pid: i32,
    /// SELinux context, where the transport delivers one.
    pub context: Option<String>,
}
