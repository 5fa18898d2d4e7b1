// SPDX-License-Identifier: Apache-2.0
//! A pressure listener that the service calls.

use crate::request::aidl::PressureLevel;
use anion_ipc::{Strong, impl_interface, new_binder};
use std::sync::mpsc::{Receiver, Sender, channel};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IPressureListener::{
    BnPressureListener, IPressureListener,
};

/// Sends each level to a channel.
pub(crate) struct Listener(Sender<PressureLevel>);

impl Listener {
    /// Returns a listener, and the receiver of its levels.
    pub(crate) fn pair() -> (Strong<dyn IPressureListener>, Receiver<PressureLevel>) {
        let (sender, levels) = channel();
        (new_binder!(BnPressureListener, Self(sender)), levels)
    }
}

impl_interface!(Listener, |_listener, _writer, _args: &[String]| Ok(()));

impl IPressureListener for Listener {
    fn onPressure(&self, level: PressureLevel) -> anion_ipc::Result<()> {
        // The test may have ended.
        let _ = self.0.send(level);
        Ok(())
    }
}
