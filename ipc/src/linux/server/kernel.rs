// SPDX-License-Identifier: Apache-2.0
//! Kernel binder: opens the device, and keeps the service registered with its service manager.
//!
//! The service manager of a Linux machine can be restarted, and then has no registrations. A thread
//! sleeps until the manager dies, and registers again as soon as a new one answers. It calls the
//! device's context object directly: the library's own registry functions keep the first manager
//! permanently (see *hub* in its documentation).

use crate::Endpoint;
use rsbinder::hub::android_16::{BpServiceManager, DUMP_FLAG_PRIORITY_DEFAULT, IServiceManager};
use rsbinder::{
    DeathRecipient, ExceptionCode, FromIBinder, ProcessState, Proxy, SIBinder, StatusCode, Strong, WIBinder,
};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// First and longest pause between two attempts to register while no service manager answers.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An open binder device. A process has at most one.
pub struct KernelServer {
    device: PathBuf,
}

impl KernelServer {
    /// Opens `device` for up to `threads` concurrent calls. Serves nothing before
    /// [`Self::publish`].
    ///
    /// # Errors
    /// If the device is missing, not accessible, not a binder device, or the process has already
    /// opened one.
    pub fn open(device: &Path, threads: u32) -> io::Result<Self> {
        let fail = |kind, why: String| io::Error::new(kind, format!("{}: {why}", device.display()));
        if ProcessState::is_initialized() {
            return Err(fail(io::ErrorKind::AlreadyExists, "this process has a binder device open".into()));
        }
        // The library reports only a text; the system's error is more precise.
        File::options()
            .read(true)
            .write(true)
            .open(device)
            .map_err(|error| fail(error.kind(), error.to_string()))?;
        let path = device
            .to_str()
            .ok_or_else(|| fail(io::ErrorKind::InvalidInput, "the path is not valid UTF-8".into()))?;
        ProcessState::init(path, threads)
            .map_err(|error| fail(io::ErrorKind::Unsupported, error.to_string().trim_end().to_owned()))?;
        Ok(Self { device: device.to_owned() })
    }

    /// Returns the endpoint of the published services.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Binder(self.device.clone())
    }

    /// Checks that a service manager answers on the device now.
    ///
    /// # Errors
    /// `NotConnected`, with the device's name, if none does.
    pub fn find_manager(&self) -> io::Result<()> {
        ProcessState::as_self().context_object().map(drop).map_err(|_code| self.no_manager())
    }

    /// Serves `service` on the device's threads and registers it as `name`. Waits up to `patience`
    /// for a service manager. Once registered, it stays registered while the process lives, also
    /// with a later manager.
    ///
    /// # Errors
    /// `NotConnected` if no service manager answered in time, `PermissionDenied` if it refused.
    pub fn publish<I: FromIBinder + ?Sized>(
        &self,
        name: &str,
        service: &Strong<I>,
        patience: Duration,
    ) -> io::Result<()> {
        ProcessState::start_thread_pool();
        let (deaths, died) = mpsc::channel();
        let mut registrar =
            Registrar { name: name.to_owned(), service: service.into(), deaths, generation: 0 };
        let deadline = Instant::now() + patience;
        let mut pauses = Pauses::new();
        let manager = loop {
            match registrar.register() {
                Ok(manager) => break manager,
                Err(Setback::Refused(why)) => {
                    let why = format!("{}: the service manager refuses {name}: {why}", self.device.display());
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
                }
                Err(Setback::Away) if Instant::now() >= deadline => return Err(self.no_manager()),
                Err(Setback::Away) => thread::sleep(pauses.next()),
            }
        };
        thread::Builder::new()
            .name("binder-register".to_owned())
            .spawn(move || registrar.keep_registered(manager, &died))?;
        Ok(())
    }

    fn no_manager(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::NotConnected,
            format!("{}: no service manager answers", self.device.display()),
        )
    }
}

/// Reason why an attempt to register failed.
enum Setback {
    /// There is no service manager, or it died meanwhile. A later attempt can succeed.
    Away,
    /// The manager refused.
    Refused(String),
}

/// A service manager with the service's registration. Its death is reported while this exists.
struct Manager {
    _proxy: SIBinder,
    _link: Arc<DeathLink>,
}

/// Sends its generation when its service manager dies.
struct DeathLink {
    deaths: Sender<u64>,
    generation: u64,
}

impl DeathRecipient for DeathLink {
    fn binder_died(&self, _who: &WIBinder) {
        // The receiver is dropped only if the registration failed.
        let _ = self.deaths.send(self.generation);
    }
}

struct Registrar {
    name: String,
    service: SIBinder,
    deaths: Sender<u64>,
    /// Counts attempts, so that a late death message of an earlier manager is ignored.
    generation: u64,
}

impl Registrar {
    /// Registers with the manager that answers now. Makes the death link first, so that a death
    /// during the registration is reported.
    fn register(&mut self) -> Result<Manager, Setback> {
        self.generation += 1;
        let away = |_code: StatusCode| Setback::Away;
        let proxy = ProcessState::as_self().context_object().map_err(away)?;
        let link = Arc::new(DeathLink { deaths: self.deaths.clone(), generation: self.generation });
        proxy.link_to_death_arc(&link).map_err(away)?;
        let manager = BpServiceManager::from_binder(proxy.clone())
            .ok_or_else(|| Setback::Refused("it is not a service manager".to_owned()))?;
        manager.addService(&self.name, &self.service, false, DUMP_FLAG_PRIORITY_DEFAULT).map_err(
            |status| match status.exception_code() {
                ExceptionCode::TransactionFailed => Setback::Away,
                _ => Setback::Refused(status.to_string()),
            },
        )?;
        Ok(Manager { _proxy: proxy, _link: link })
    }

    /// Waits for the manager's death and registers with the next one, for as long as the process
    /// lives.
    fn keep_registered(mut self, mut manager: Manager, died: &Receiver<u64>) {
        while let Ok(generation) = died.recv() {
            if generation != self.generation {
                continue;
            }
            log::warn!("the binder service manager died; {} registers with its successor", self.name);
            // The dead proxy must be dropped before the device's context object is requested again.
            drop(manager);
            manager = self.find_successor();
            log::info!("{} is registered with the new binder service manager", self.name);
        }
    }

    fn find_successor(&mut self) -> Manager {
        let mut pauses = Pauses::new();
        let mut reported = None;
        loop {
            match self.register() {
                Ok(manager) => return manager,
                Err(Setback::Refused(why)) if reported.as_ref() != Some(&why) => {
                    log::error!("the new binder service manager refuses {}: {why}", self.name);
                    reported = Some(why);
                }
                Err(Setback::Refused(_) | Setback::Away) => {}
            }
            thread::sleep(pauses.next());
        }
    }
}

/// Growing pauses between attempts.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(BACKOFF.0)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_limit() {
        let mut pauses = Pauses::new();
        let taken: Vec<_> = (0..10).map(|_| pauses.next()).collect();
        assert_eq!(taken[..3], [50, 100, 200].map(Duration::from_millis));
        assert_eq!(taken[9], BACKOFF.1);
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = KernelServer::open(Path::new("/dev/no-such-binder"), 1).err().expect("there is none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/dev/no-such-binder"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_binder_is_refused() {
        let error = KernelServer::open(Path::new("/dev/null"), 1).err().expect("not a binder device");
        assert!(error.to_string().starts_with("/dev/null: "), "{error}");
        assert!(!ProcessState::is_initialized());
    }
}
