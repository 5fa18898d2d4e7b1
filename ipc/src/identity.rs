// SPDX-License-Identifier: Apache-2.0
//! The caller, as the transport identifies it.

/// The process that made the call that this thread serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// Effective uid: that of the call over kernel binder, that of the socket's peer at connect
    /// time over a socket.
    pub uid: u32,
    /// Process id, only for display: it can be reused. 0 if the transport does not report it.
    pub pid: i32,
    /// SELinux context, if the transport reports one.
    pub context: Option<String>,
}
