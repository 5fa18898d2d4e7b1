// SPDX-License-Identifier: Apache-2.0
//! Calls from the service to a client's object.

use rsbinder::{DeathRecipient, FromIBinder, SIBinder, Strong, TransportCaps, WIBinder, calling_caps};
use std::io;
use std::sync::Arc;

/// Returns whether the service can call the caller of the transaction that this thread serves:
/// always over kernel binder; over a socket, if the client opened a connection for it.
pub fn caller_takes_calls() -> bool {
    calling_caps().is_some_and(|caps| caps.contains(TransportCaps::CALLBACKS))
}

/// Returns whether both are the same object of the same process.
pub fn is_same_object<I: FromIBinder + ?Sized>(one: &Strong<I>, other: &Strong<I>) -> bool {
    SIBinder::from(one) == SIBinder::from(other)
}

/// Reports the death of a remote object's process, until dropped.
pub struct DeathLink {
    object: SIBinder,
    recipient: Arc<Recipient>,
}

struct Recipient(Box<dyn Fn() + Send + Sync>);

impl DeathRecipient for Recipient {
    fn binder_died(&self, _who: &WIBinder) {
        (self.0)();
    }
}

impl DeathLink {
    /// Calls `on_death` once when the process of `object` dies or its connection is lost.
    /// `on_death` may drop the link.
    ///
    /// # Errors
    /// `NotConnected` if this has already happened, `InvalidInput` if the object belongs to this
    /// process.
    pub fn new<I: FromIBinder + ?Sized>(
        object: &Strong<I>,
        on_death: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let object = SIBinder::from(object);
        if object.as_remote().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the object is the service's own"));
        }
        let recipient = Arc::new(Recipient(Box::new(on_death)));
        object.link_to_death_arc(&recipient).map_err(|code| {
            io::Error::new(io::ErrorKind::NotConnected, format!("its process has ended: {code:?}"))
        })?;
        Ok(Self { object, recipient })
    }
}

impl Drop for DeathLink {
    fn drop(&mut self) {
        // Fails once the object is dead; then nothing is left to unlink.
        let _ = self.object.unlink_to_death_arc(&self.recipient);
    }
}
