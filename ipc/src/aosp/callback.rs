// SPDX-License-Identifier: Apache-2.0
//! Calls from the service to a client's object.

use binder::{DeathRecipient, FromIBinder, IBinder, SpIBinder, Strong};
use std::io;

/// Returns whether the service can call the caller of the transaction that this thread serves:
/// always over kernel binder.
pub fn caller_takes_calls() -> bool {
    true
}

/// Returns whether both are the same object of the same process.
pub fn is_same_object<I: FromIBinder + ?Sized>(one: &Strong<I>, other: &Strong<I>) -> bool {
    one.as_binder() == other.as_binder()
}

/// Reports the death of a remote object's process, until dropped.
pub struct DeathLink {
    object: SpIBinder,
    recipient: DeathRecipient,
}

impl DeathLink {
    /// Calls `on_death` once when the process of `object` dies. `on_death` may drop the link.
    ///
    /// # Errors
    /// `NotConnected` if the process has already died, `InvalidInput` if the object belongs to this
    /// process.
    pub fn new<I: FromIBinder + ?Sized>(
        object: &Strong<I>,
        on_death: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut object = object.as_binder();
        if !object.is_remote() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the object is the service's own"));
        }
        let mut recipient = DeathRecipient::new(on_death);
        object.link_to_death(&mut recipient).map_err(|code| {
            io::Error::new(io::ErrorKind::NotConnected, format!("its process has ended: {code:?}"))
        })?;
        Ok(Self { object, recipient })
    }
}

impl Drop for DeathLink {
    fn drop(&mut self) {
        // Fails once the object is dead; then nothing is left to unlink.
        let _ = self.object.unlink_to_death(&mut self.recipient);
    }
}
