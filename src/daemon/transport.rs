// SPDX-License-Identifier: Apache-2.0
//! Opens the transports and serves over them.

use super::accept::Acceptor;
use super::args::{TransportArguments, TransportKind};
use super::budget::{Budget, Limits};
use super::keeper::{self, Current, Keeper};
use super::listener::{Listener, SocketSettings};
use super::services::Services;
use crate::config::spec::Policy;
use crate::graphics;
use crate::pulse::{Pulse, Watched};
use anion_ipc::{
    Endpoint, FromIBinder, Held, KernelServer, SERVICE_NAME, SocketServer, Strong, default_socket,
};
use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use std::collections::HashSet;
use std::io;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time to wait for a service manager that starts at the same time.
const MANAGER_PATIENCE: Duration = Duration::from_secs(5);
/// Limit of the bytes of all clients' unfinished messages at once; each message may have 600 KiB.
const MAX_HELD_BYTES: usize = 64 << 20;
/// Limits of the descriptors in unfinished messages: a number, and a divisor of the process's
/// limit.
const MAX_HELD_DESCRIPTORS: usize = 1024;
const DESCRIPTORS_PART: usize = 8;
/// Name of the graphics allocator's socket, in the directory of the other socket.
const GRAPHICS_SOCKET: &str = "graphics.sock";
/// Time that a stop waits for calls that are being answered.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Open transports: clients can connect and wait, but are not served yet.
pub(crate) struct Transports<'a> {
    arguments: &'a TransportArguments,
    own_uid: u32,
    /// Uids for which connections are kept.
    privileged: HashSet<u32>,
    kernel: Option<KernelServer>,
    listeners: Option<Listeners>,
    /// Whether the sockets are used if the service manager refuses the service.
    may_fall_back: bool,
}

/// Served transports. Dropping it removes the sockets.
pub(crate) struct Serving {
    /// Addresses of the service.
    pub(crate) places: Vec<String>,
    own_uid: u32,
    /// One, or two that share a budget.
    sockets: Vec<ServedSocket>,
}

/// The sockets, each of which has one root object.
struct Listeners {
    heaps: Listener,
    /// `None` unless an option requests it.
    graphics: Option<Listener>,
}

struct ServedSocket {
    place: String,
    listener: keeper::Shared,
    server: Arc<SocketServer>,
    budget: Arc<Budget>,
    /// Closing it ends the thread that accepts clients.
    stop: UnixStream,
    /// The socket, and the progress of the thread that accepts its clients.
    current: Arc<Current>,
    accepted: Arc<Pulse>,
}

/// Returns the uids for which connections are kept: root, the service's own uid, and those that the
/// policy privileges.
fn privileged(policy: &Policy, own_uid: u32) -> HashSet<u32> {
    policy.favoured().map(|uid| uid.0).chain([0, own_uid]).collect()
}

impl<'a> Transports<'a> {
    /// Opens the transports that the arguments, the machine and the passed sockets select. Called
    /// early, so that a second instance fails before it takes any memory.
    ///
    /// # Errors
    /// If a requested transport cannot be opened, or a passed socket is not a listening one.
    pub(crate) fn open(
        arguments: &'a TransportArguments,
        policy: &Policy,
        passed: &[RawFd],
    ) -> anyhow::Result<Self> {
        let passed = Listener::from_systemd(passed)?;
        let wants_socket = arguments.socket.is_some() || passed.is_some();
        let unless_told = if wants_socket { TransportKind::Socket } else { TransportKind::Auto };
        let kind = arguments.transport.unwrap_or(unless_told);
        let kernel = match kind {
            TransportKind::Socket => None,
            TransportKind::Binder | TransportKind::Both => Some(open_kernel(arguments)?),
            TransportKind::Auto => probe_kernel(arguments),
        };
        let listeners = match kind {
            TransportKind::Socket | TransportKind::Both => Some(Listeners::open(arguments, passed)?),
            TransportKind::Auto if kernel.is_none() => Some(Listeners::open(arguments, passed)?),
            TransportKind::Auto | TransportKind::Binder => None,
        };
        let own_uid = geteuid().as_raw();
        let privileged = privileged(policy, own_uid);
        Ok(Self {
            arguments,
            own_uid,
            privileged,
            kernel,
            listeners,
            may_fall_back: kind == TransportKind::Auto,
        })
    }

    /// Serves `services` over all transports. Calls `confine` once, when nothing is left to open:
    /// before the first client is served, except over kernel binder if the socket may have to
    /// replace it. `may_bind`: whether a removed socket can be bound again after that.
    ///
    /// # Errors
    /// If the service manager does not answer in time or refuses, unless the socket can replace it;
    /// if `confine` fails.
    pub(crate) fn serve(
        mut self,
        services: &Services,
        confine: impl Fn() -> anyhow::Result<()>,
        may_bind: bool,
    ) -> anyhow::Result<Serving> {
        let mut places = Vec::new();
        let arguments = self.arguments;
        let listeners = self.listeners.take();
        let prepare = |opened: Listeners| opened.prepare(services, arguments, &self.privileged, may_bind);
        let mut sockets = listeners.map(prepare).transpose()?.unwrap_or_default();
        let is_all_open = self.kernel.is_none() || !self.may_fall_back;
        if is_all_open {
            confine()?;
        }
        if let Some(kernel) = &self.kernel {
            match publish(kernel, services) {
                Ok(names) => places.push(format!("{} as {}", kernel.endpoint(), names.join(" and "))),
                Err(Refused { error, registered: None }) if self.may_fall_back => {
                    log::warn!("kernel binder is not used: {error}");
                    sockets = prepare(Listeners::open(arguments, None)?)?;
                }
                Err(Refused { error, registered: None }) => {
                    return Err(error).context("cannot serve over kernel binder");
                }
                Err(Refused { error, registered: Some(other) }) => {
                    let why =
                        format!("{other} is registered, so sockets cannot take the place of kernel binder");
                    return Err(error).context(why);
                }
            }
        }
        if !is_all_open {
            confine()?;
        }
        let sockets = sockets.into_iter().map(PreparedSocket::serve).collect::<anyhow::Result<Vec<_>>>()?;
        places.extend(sockets.iter().map(|served| served.place.clone()));
        Ok(Serving { places, own_uid: self.own_uid, sockets })
    }
}

impl Serving {
    /// Keeps connections for the uids of another policy from now on.
    pub(crate) fn set_policy(&self, policy: &Policy) {
        // They share one budget.
        if let Some(socket) = self.sockets.first() {
            socket.budget.set_privileged(privileged(policy, self.own_uid));
        }
    }

    /// Returns the progress of the threads that accept clients.
    pub(crate) fn background(&self) -> Vec<Watched> {
        let watched = |socket: &ServedSocket| {
            let current = Arc::clone(&socket.current);
            let is_due = Box::new(move || current.has_client());
            Watched { task: "accepts clients", pulse: Arc::clone(&socket.accepted), is_due }
        };
        self.sockets.iter().map(watched).collect()
    }

    /// Accepts no more clients, removes the sockets except those of systemd, ends every connection,
    /// and waits briefly for running calls. Clients wait at a socket of systemd for the next
    /// service.
    pub(crate) fn stop(self) {
        for ServedSocket { listener, stop, .. } in &self.sockets {
            // It cannot fail: the other end is open as long as the thread accepts clients.
            let _ = stop.shutdown(Shutdown::Both);
            let listener = listener.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(listener);
        }
        for ServedSocket { place, server, .. } in &self.sockets {
            if !server.stop(STOP_PATIENCE) {
                log::info!("{place}: some connections did not end within {STOP_PATIENCE:?}; closing them");
            }
        }
    }
}

/// Reason why not all objects are registered.
struct Refused {
    error: io::Error,
    /// The name that is registered, until the process ends: no call unregisters it.
    registered: Option<String>,
}

/// Registers the objects with the service manager, the graphics allocator first, since a manager
/// may not know it. Returns the names.
///
/// # Errors
/// If the manager does not answer in time, or refuses a name.
fn publish(kernel: &KernelServer, services: &Services) -> Result<Vec<String>, Refused> {
    let mut names = Vec::new();
    if let Some((instance, service)) = &services.graphics {
        let name = format!("{}/{instance}", graphics::INTERFACE_NAME);
        let published = kernel.publish(&name, service, MANAGER_PATIENCE);
        published.map_err(|error| Refused { error, registered: None })?;
        names.push(name);
    }
    let published = kernel.publish(SERVICE_NAME, &services.heaps, MANAGER_PATIENCE);
    published.map_err(|error| Refused { error, registered: names.first().cloned() })?;
    names.insert(0, SERVICE_NAME.to_owned());
    Ok(names)
}

fn open_kernel(arguments: &TransportArguments) -> anyhow::Result<KernelServer> {
    let device = match (&arguments.binder_device, Endpoint::default_binder()) {
        (Some(device), _) => device.clone(),
        (None, Some(Endpoint::Binder(device))) => device,
        (None, _) => PathBuf::from("/dev/binder"),
    };
    KernelServer::open(&device, arguments.threads).context("cannot open kernel binder")
}

fn probe_kernel(arguments: &TransportArguments) -> Option<KernelServer> {
    let opened = open_kernel(arguments).and_then(|kernel| {
        kernel.find_manager()?;
        Ok(kernel)
    });
    match opened {
        Ok(kernel) => Some(kernel),
        Err(error) => {
            log::info!("kernel binder is not used: {:#}", error.root_cause());
            None
        }
    }
}

impl Listeners {
    fn open(arguments: &TransportArguments, passed: Option<Listener>) -> anyhow::Result<Self> {
        let heaps = listen(arguments, passed)?;
        let Some(_) = &arguments.graphics else { return Ok(Self { heaps, graphics: None }) };
        let beside = || heaps.path().map(|path| path.with_file_name(GRAPHICS_SOCKET));
        let path = arguments.graphics_socket.clone().or_else(beside).context(
            "systemd passed a socket without a path, so the one of the graphics allocator has none: give \
             --graphics-socket",
        )?;
        let (mode, group) = (arguments.socket_mode, arguments.socket_group);
        let graphics = Listener::bind(&SocketSettings { path, mode, group });
        let graphics = graphics.context("cannot serve the graphics allocator")?;
        Ok(Self { heaps, graphics: Some(graphics) })
    }

    /// Makes all objects for serving. Clients of all sockets share one budget.
    fn prepare(
        self,
        services: &Services,
        arguments: &TransportArguments,
        privileged: &HashSet<u32>,
        may_bind: bool,
    ) -> anyhow::Result<Vec<PreparedSocket>> {
        let limits = Limits {
            connections: arguments.max_connections.into(),
            connections_per_uid: arguments.max_connections_per_uid.into(),
            sessions_per_uid: arguments.max_sessions_per_uid.into(),
            held: held_of_messages()?,
        };
        let budget = Budget::new(limits, privileged.clone());
        let mut sockets = vec![PreparedSocket::new(self.heaps, &services.heaps, &budget, may_bind)?];
        if let (Some(listener), Some((_, service))) = (self.graphics, &services.graphics) {
            sockets.push(PreparedSocket::new(listener, service, &budget, may_bind)?);
        }
        Ok(sockets)
    }
}

fn listen(arguments: &TransportArguments, passed: Option<Listener>) -> anyhow::Result<Listener> {
    if let Some(listener) = passed {
        if arguments.socket.is_some() || arguments.socket_mode.is_some() || arguments.socket_group.is_some() {
            log::warn!("systemd made the socket; its unit sets path, mode and group");
        }
        return Ok(listener);
    }
    let path = match &arguments.socket {
        Some(path) => path.clone(),
        None => default_socket()?,
    };
    Listener::bind(&SocketSettings { path, mode: arguments.socket_mode, group: arguments.socket_group })
}

/// Returns the limit of unfinished messages of all clients. Those of the interface have a few KiB
/// and one descriptor.
fn held_of_messages() -> anyhow::Result<Held> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of descriptors")?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let descriptors = (limit / DESCRIPTORS_PART).clamp(4, MAX_HELD_DESCRIPTORS);
    Ok(Held { bytes: MAX_HELD_BYTES, descriptors })
}

/// A socket with the objects that serving needs.
struct PreparedSocket {
    served: ServedSocket,
    acceptor: Acceptor,
    /// `None` without inotify: the socket's path is then not watched.
    keeper: Option<Keeper>,
}

impl PreparedSocket {
    fn new<I: FromIBinder + ?Sized>(
        listener: Listener,
        service: &Strong<I>,
        budget: &Arc<Budget>,
        may_bind: bool,
    ) -> anyhow::Result<Self> {
        let server = Arc::new(SocketServer::new(service)?);
        let (stop, stopped) = UnixStream::pair()?;
        let current = Current::new(listener.socket.try_clone()?);
        let accepted = Arc::<Pulse>::default();
        let acceptor = Acceptor::new(
            Arc::clone(&current),
            Arc::clone(&server),
            Arc::clone(budget),
            stopped,
            Arc::clone(&accepted),
        );
        let (place, listener) = (listener.place.clone(), Arc::new(Mutex::new(Some(listener))));
        let keeper = Keeper::new(Arc::clone(&listener), Arc::clone(&current), may_bind);
        let keeper = keeper.inspect_err(|error| log::info!("cannot watch the socket's path: {error}"));
        let budget = Arc::clone(budget);
        let served = ServedSocket { place, listener, server, budget, stop, current, accepted };
        Ok(Self { served, acceptor, keeper: keeper.ok() })
    }

    /// Starts to serve clients.
    fn serve(self) -> anyhow::Result<ServedSocket> {
        let acceptor = self.acceptor;
        if let Some(keeper) = self.keeper {
            keeper.start().context("cannot start the thread that watches the socket's path")?;
        }
        thread::Builder::new().name("accept".to_owned()).spawn(|| acceptor.run())?;
        Ok(self.served)
    }
}
