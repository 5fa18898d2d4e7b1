// SPDX-License-Identifier: Apache-2.0
//! Checks the service manager of kernel binder, and the running service.

use super::binder::has_binder;
use super::finding::Finding;
use super::root::Root;
use anion_client::{Client, Error, Settings};
use anion_ipc::{Endpoint, EndpointError, ParcelFileDescriptor, SERVICE_NAME};
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Properties of a running service.
#[derive(Debug, Serialize)]
pub(crate) struct Running {
    pub(crate) endpoint: String,
    /// Version of the interface; `None` if it does not report it.
    pub(crate) version: Option<i32>,
    pub(crate) heaps: usize,
    /// Its process; `None` if it is too old to report it.
    #[serde(flatten)]
    pub(crate) process: Option<Process>,
    pub(crate) unavailable: Vec<UnavailableHeap>,
}

/// The process of a running service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// The files of its configuration, or `built in`.
    pub(crate) configuration: String,
}

/// A heap that the running service cannot serve.
#[derive(Debug, Serialize)]
pub(crate) struct UnavailableHeap {
    pub(crate) heap: String,
    pub(crate) reason: String,
}

/// Returns whether a service manager answers on the default binder device.
pub(crate) fn manager(root: &Root) -> Finding {
    const WHAT: &str = "service manager";
    const WITHOUT: &str = "clients can connect only over the Unix socket";
    let device = if has_binder(root) { Endpoint::default_binder() } else { None };
    let Some(device) = device else {
        return Finding::missing(WHAT, "no binder device to ask through", WITHOUT);
    };
    let answer = anion_ipc::connect::<dyn IHeapAllocator>(&device, SERVICE_NAME, 1);
    manager_finding(&device, answer.map(drop))
}

/// Returns the line for the result of the query for the service manager.
fn manager_finding(device: &Endpoint, answer: io::Result<()>) -> Finding {
    const WHAT: &str = "service manager";
    let means = "the service is found by its name; aniond serves kernel binder by default";
    match answer {
        Ok(()) => Finding::ok(WHAT, format!("answers at {device}; Anion is registered"), means),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok(WHAT, format!("answers at {device}; Anion is not registered"), means)
        }
        Err(error) => {
            let means = "clients can connect only over the Unix socket";
            Finding::missing(WHAT, error.to_string(), means)
                .change("rsb_hub & (of rsbinder-tools; Android has servicemanager)")
        }
    }
}

/// Reason why no service reports its properties.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoService {
    /// No endpoint to connect to is known.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No service answers.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The connection fails for another reason.
    #[error(transparent)]
    Client(Error),
    /// It does not answer a query.
    #[error("{endpoint}: {error}")]
    Silent { endpoint: Endpoint, error: Error },
}

/// Connects to the service if one answers now.
///
/// # Errors
/// The reason if no service answers.
pub(crate) fn connect(endpoint: Result<Option<Endpoint>, EndpointError>) -> Result<Client, NoService> {
    let settings = Settings { endpoint: endpoint?, patience: Duration::ZERO, ..Settings::default() };
    Client::as_operator(settings).map_err(|error| match error {
        Error::Unreachable(why) => NoService::Unreachable(why),
        other => NoService::Client(other),
    })
}

/// Queries the properties of the service.
///
/// # Errors
/// As [`Client::call`].
fn ask(service: &Client) -> Result<Running, Error> {
    let heaps = service.heaps()?;
    let total = heaps.len();
    let unavailable = heaps
        .into_iter()
        .filter_map(|heap| Some(UnavailableHeap { heap: heap.name, reason: heap.unavailable? }));
    Ok(Running {
        endpoint: service.endpoint().to_string(),
        // An older service may not have this method.
        version: service.call(|service| service.getInterfaceVersion()).ok(),
        heaps: total,
        process: process_of(service),
        unavailable: unavailable.collect(),
    })
}

/// Returns the process that the service reports; `None` if it does not report one.
fn process_of(service: &Client) -> Option<Process> {
    // A few hundred bytes: they fit into the pipe, so no thread has to read meanwhile.
    let (mut reader, writer) = io::pipe().ok()?;
    let writer = ParcelFileDescriptor::new(OwnedFd::from(writer));
    service.call(|service| service.dumpTo(&writer, &["--service".to_owned()])).ok()?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Returns the user and the configuration of a service, for people.
fn described(process: &Process) -> String {
    let user = User::from_uid(Uid::from_raw(process.uid)).ok().flatten();
    let name = user.map_or_else(String::new, |user| format!(" ({})", user.name));
    format!("; uid {}{name}, pid {}, configuration {}", process.uid, process.pid, process.configuration)
}

/// Returns the properties of the service, if one runs, and the line about it.
pub(crate) fn running(service: Result<Client, NoService>) -> (Finding, Option<Running>) {
    const WHAT: &str = "service";
    let answer = service.and_then(|service| {
        ask(&service).map_err(|error| NoService::Silent { endpoint: service.endpoint().clone(), error })
    });
    let running = match answer {
        Ok(running) => running,
        Err(why) => {
            let finding = Finding::missing(WHAT, why.to_string(), "nothing here needs it, but clients do");
            return (finding.change("aniond"), None);
        }
    };
    let version =
        running.version.map_or_else(|| "an unknown version".to_owned(), |number| format!("version {number}"));
    let process = running.process.as_ref().map_or_else(String::new, described);
    let found = format!("{} serves {version} of the interface{process}", running.endpoint);
    let finding = if running.unavailable.is_empty() {
        Finding::ok(WHAT, found, format!("all of its {} heaps are available", running.heaps))
    } else {
        let reasons: Vec<_> =
            running.unavailable.iter().map(|heap| format!("{}: {}", heap.heap, heap.reason)).collect();
        let means = format!(
            "{} of its {} heaps are not available: {}",
            reasons.len(),
            running.heaps,
            reasons.join("; ")
        );
        Finding::limited(WHAT, found, means).change("the changes in the lines above, then start it again")
    };
    (finding, Some(running))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::super::root::tests::Fake;
    use super::*;

    #[test]
    fn without_a_device_no_manager_is_asked() {
        let finding = manager(&Fake::new(&[]).root);
        assert_eq!(
            (finding.state, finding.found.as_str()),
            (State::Missing, "no binder device to ask through")
        );
    }

    #[test]
    fn a_manager_that_does_not_know_the_service_answers_all_the_same() {
        let device = Endpoint::Binder("/dev/binder".into());
        assert_eq!(manager_finding(&device, Ok(())).state, State::Ok);
        let unknown = manager_finding(&device, Err(io::ErrorKind::NotFound.into()));
        assert_eq!(unknown.state, State::Ok);
        assert!(unknown.found.contains("not registered"), "{unknown:?}");
        let silent = manager_finding(&device, Err(io::ErrorKind::ConnectionRefused.into()));
        assert!(silent.state == State::Missing && silent.change.is_some(), "{silent:?}");
    }

    #[test]
    fn a_service_that_is_not_there_is_missing_with_the_reason() {
        let nowhere = connect(Ok(Some(Endpoint::Socket("/no/such/socket".into()))));
        let (finding, running) = running(nowhere);
        assert!(running.is_none());
        assert_eq!(finding.state, State::Missing);
        assert!(finding.found.contains("/no/such/socket"), "{finding:?}");
    }
}
