// SPDX-License-Identifier: Apache-2.0
//! Decisions of the server's owner about each connection, and the state that it gets.

use super::transport::{Opening, Refused};
use std::fmt::Display;
use std::os::fd::OwnedFd;

/// Resources that the service holds for a connection, beyond those of every connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes of a message that has not come in whole, or is being answered.
    pub bytes: usize,
    /// Descriptors of such messages.
    pub descriptors: usize,
}

/// A connection's right to be served. It is dropped once the connection's socket is closed.
pub trait Permit: Send + Sync + 'static {
    /// Decides about the connection, once, when the client has said what it wants with it.
    ///
    /// # Errors
    /// Reason why it is not served: the client gets it, and the connection ends.
    fn opens(&self, opening: Opening) -> Result<(), Refused> {
        let _ = opening;
        Ok(())
    }

    /// Returns whether the connection may make the service hold `held` from now on. Called whenever
    /// that changes; the session ends if this returns false.
    fn admits(&self, held: Held) -> bool {
        let _ = held;
        true
    }

    /// Notes that the client sent something.
    fn active(&self) {}

    /// Learns why the service ends the connection, once, where it does so for what the client
    /// sent.
    fn refused(&self, why: &dyn Display) {
        let _ = why;
    }

    /// Closes a duplicate of the socket if no thread can be started to serve it. That may take
    /// time: descriptors that the client has sent are closed with it.
    fn unserved(&self, socket: OwnedFd) {
        drop(socket);
    }

    /// Notes that the socket is about to be closed: its descriptor is another file's soon.
    fn closing(&self) {}
}

/// A connection that nothing is counted for.
impl Permit for () {}
