// SPDX-License-Identifier: Apache-2.0
//! The interface by which the server's owner decides about each connection and keeps its state.

use super::transport::{Opening, Refused};
use std::fmt::Display;
use std::os::fd::OwnedFd;

/// Resources that the service holds for a connection, beyond those of every connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes of a message that has not arrived completely, or is being answered.
    pub bytes: usize,
    /// Descriptors of such messages.
    pub descriptors: usize,
}

/// A connection's permission to be served. Dropped once the connection's socket is closed.
pub trait Permit: Send + Sync + 'static {
    /// Decides about the connection, once, when the client has sent its purpose.
    ///
    /// # Errors
    /// The reason why it is not served, which the client gets; then the connection ends.
    fn opens(&self, opening: Opening) -> Result<(), Refused> {
        let _ = opening;
        Ok(())
    }

    /// Returns whether the service may hold `held` for the connection from now on. Called at every
    /// change; the session ends if it returns false.
    fn admits(&self, held: Held) -> bool {
        let _ = held;
        true
    }

    /// Records that the client sent data.
    fn active(&self) {}

    /// Gets the reason, once, if the service ends the connection because of data that the client
    /// sent.
    fn refused(&self, why: &dyn Display) {
        let _ = why;
    }

    /// Closes a duplicate of the socket if no thread can be started to serve it. This may take
    /// time: it also closes the descriptors that the client has sent.
    fn unserved(&self, socket: OwnedFd) {
        drop(socket);
    }

    /// Records that the socket is about to be closed: its descriptor number may soon be another
    /// file's.
    fn closing(&self) {}
}

/// Permits everything and counts nothing.
impl Permit for () {}
