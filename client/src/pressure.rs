// SPDX-License-Identifier: Apache-2.0
//! Reports memory pressure, as the service determines it.

use super::connection::Client;
use super::error::Error;
use super::process::OfProcess;
use anion_ipc::{Connection, DeathLink, Endpoint, SERVICE_NAME, Strong, impl_interface, new_binder};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IPressureListener::{
    BnPressureListener, IPressureListener,
};
use vendor_anion_allocator::aidl::vendor::anion::allocator::PressureLevel::PressureLevel as AidlLevel;

/// Pause between two attempts to reach a service that has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// The level of memory pressure (`PressureLevel.aidl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum PressureLevel {
    /// The service knows of no memory pressure.
    None = 0,
    /// The service returns a part of its pooled memory to the kernel.
    Moderate = 1,
    /// The service pools no memory.
    Critical = 2,
}

impl From<AidlLevel> for PressureLevel {
    /// Converts a level that is newer than this library to critical: newer levels are higher.
    fn from(level: AidlLevel) -> Self {
        match level {
            AidlLevel::NONE => Self::None,
            AidlLevel::MODERATE => Self::Moderate,
            _ => Self::Critical,
        }
    }
}

/// Receives the pressure level until it is dropped, with a separate connection and thread. When the
/// service restarts, it connects to the new one.
pub struct PressureWatch {
    shared: Arc<Shared>,
    thread: OfProcess<JoinHandle<()>>,
}

/// The state that the watch shares with its thread and with the listener.
struct Shared {
    state: Mutex<State>,
    /// Signals that the service has ended, or the watch is being dropped.
    changed: Condvar,
    /// Readable while `state` has a level.
    event: EventFd,
}

#[derive(Default)]
struct State {
    /// The last level that the caller has not read yet.
    level: Option<PressureLevel>,
    lost: bool,
    stop: bool,
}

struct Listener(Arc<Shared>);

impl_interface!(Listener);

impl IPressureListener for Listener {
    fn onPressure(&self, level: AidlLevel) -> anion_ipc::Result<()> {
        self.0.lock().level = Some(level.into());
        // Fails only if the counter is at its maximum, which it never reaches: every read clears
        // it.
        let _ = self.0.event.write(1);
        Ok(())
    }
}

/// A registration. Dropping it ends the session and so the registration.
struct Registered {
    _death: DeathLink,
    _listener: Strong<dyn IPressureListener>,
    _connection: Connection<dyn IHeapAllocator>,
}

impl Client {
    /// Returns the present level of memory pressure.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn pressure(&self) -> Result<PressureLevel, Error> {
        Ok(self.call(|service| service.getPressure())?.into())
    }

    /// Registers for pressure levels; the first one is the present level.
    ///
    /// # Errors
    /// [`Error::Refused`] if the uid has reached its limit of listeners; [`Error::Unreachable`] if
    /// no service answers; [`Error::NoDescriptors`] and [`Error::Local`] if descriptors or threads
    /// have run out.
    pub fn watch_pressure(&self) -> Result<PressureWatch, Error> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let event = event.map_err(io::Error::from).map_err(Error::local("cannot create an eventfd"))?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), event });
        let registered = shared.register(self.endpoint())?;
        let (follower, endpoint) = (Arc::clone(&shared), self.endpoint().clone());
        let thread = thread::Builder::new().name("anion-pressure".to_owned());
        let thread = thread.spawn(move || follower.follow(registered, &endpoint));
        let thread =
            OfProcess::new(thread.map_err(Error::local("cannot start the thread for pressure levels"))?);
        Ok(PressureWatch { shared, thread })
    }
}

impl PressureWatch {
    /// Returns the last level that arrived since the last call, if any. It may skip levels in
    /// between, never the last one. It does not wait: the descriptor ([`AsFd`]) is readable while
    /// there is a level.
    ///
    /// # Errors
    /// [`Error::Inherited`] in a child of fork(2).
    pub fn next(&self) -> Result<Option<PressureLevel>, Error> {
        self.thread.get().ok_or(Error::Inherited("pressure watch"))?;
        // Cleared first: a level that arrives in between makes it readable again.
        let _ = self.shared.event.read();
        Ok(self.shared.lock().level.take())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Registered, Error> {
        let connection: Connection<dyn IHeapAllocator> =
            anion_ipc::connect_for_callbacks(endpoint, SERVICE_NAME).map_err(Error::connecting)?;
        let watched = Arc::clone(self);
        let death = DeathLink::new(&connection.service, move || {
            watched.lock().lost = true;
            watched.changed.notify_all();
        });
        let death = death.map_err(Error::Unreachable)?;
        let listener = new_binder!(BnPressureListener, Listener(Arc::clone(self)));
        connection.service.registerPressureListener(&listener)?;
        Ok(Registered { _death: death, _listener: listener, _connection: connection })
    }

    /// Keeps a registration until the watch is dropped.
    fn follow(self: Arc<Self>, registered: Registered, endpoint: &Endpoint) {
        let mut registered = Some(registered);
        loop {
            let mut state = self.lock();
            while !state.stop && !state.lost && registered.is_some() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if registered.is_none() && !state.stop {
                let waited = self.changed.wait_timeout(state, PAUSE);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.stop {
                return;
            }
            state.lost = false;
            drop(state);
            // The old session ends first: its end must not be reported any more.
            drop(registered.take());
            match self.register(endpoint) {
                Ok(new) => registered = Some(new),
                Err(error) => log::debug!("no pressure levels from {endpoint}: {error}"),
            }
        }
    }
}

impl AsFd for PressureWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl Drop for PressureWatch {
    fn drop(&mut self) {
        // A child of fork does not have the thread.
        if let Some(thread) = self.thread.take() {
            self.shared.lock().stop = true;
            self.shared.changed.notify_all();
            // Fails if the thread panicked, which has already been reported.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for PressureWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureWatch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_the_interface_has_its_number() {
        for level in AidlLevel::enum_values() {
            assert_eq!(PressureLevel::from(level) as u32, u32::from_ne_bytes(level.0.to_ne_bytes()));
        }
        assert_eq!(PressureLevel::from(AidlLevel(99)), PressureLevel::Critical);
    }
}
