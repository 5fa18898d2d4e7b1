// SPDX-License-Identifier: Apache-2.0
//! The listening socket: bound to a path, or passed by systemd.

use super::lock::{KnownFile, LockFile, OwnedPath, is_ending};
use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::unistd::{Gid, geteuid};
use rustutils::inherited_fd::take_fd_ownership;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A socket that clients can connect to. Dropping it removes the files that it made.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(super) socket: UnixListener,
    /// Address where clients find it.
    pub(super) place: String,
    path: SocketPath,
}

/// Owner of a socket's path.
#[derive(Debug)]
enum SocketPath {
    /// No owner: the socket has no path, or none that this process can see.
    Unknown,
    /// systemd, which passed the socket.
    Passed(KnownFile),
    /// This process.
    Own(OwnSocket),
}

/// Files that this process made in the file system.
#[derive(Debug)]
struct OwnSocket {
    settings: SocketSettings,
    // Fields are dropped in this order: the lock is released last. The path is `None` only while
    // the socket is bound again.
    path: Option<OwnedPath>,
    lock: LockFile,
}

/// Settings of a socket at a path.
#[derive(Debug, Clone)]
pub(crate) struct SocketSettings {
    /// The path. A missing directory is made.
    pub(crate) path: PathBuf,
    /// Permission bits; `None` for 0660 as root, else 0600.
    pub(crate) mode: Option<u32>,
    /// Group; `None` for the system's default.
    pub(crate) group: Option<Gid>,
}

impl Listener {
    /// Returns the socket that systemd made and passed to this process; `None` if it passed none.
    /// Returns it once, and only if inherited descriptors were taken over when the process began.
    ///
    /// # Errors
    /// If there are several, or if the descriptor is not a listening Unix stream socket.
    pub(crate) fn from_systemd(passed: &[RawFd]) -> anyhow::Result<Option<Self>> {
        ensure!(passed.len() <= 1, "systemd passed {} sockets, but aniond takes one", passed.len());
        let Some(&number) = passed.first() else { return Ok(None) };
        let socket = take_stream_socket(number).context("cannot use the socket from systemd")?;
        ensure!(getsockopt(&socket, sockopt::AcceptConn)?, "the socket from systemd does not listen");
        // systemd shares it and may have made it non-blocking; accepting would then be a busy loop.
        socket.set_nonblocking(false)?;
        let address = socket.local_addr()?;
        let path = address.as_pathname();
        let name = path.map(|path| path.display().to_string());
        let place = name.unwrap_or_else(|| "a socket without a path".to_owned()) + " (from systemd)";
        let known = path.and_then(|path| KnownFile::of(path).ok());
        Ok(Some(Self { socket, place, path: known.map_or(SocketPath::Unknown, SocketPath::Passed) }))
    }

    /// Makes a socket. Replaces a stale one at the path. Owner and permissions apply before the
    /// first client can connect: the kernel refuses all clients until the socket listens.
    ///
    /// # Errors
    /// If another process serves at the path (its pid is named) or starts to, if another kind of
    /// file is there, or as the system reports it.
    pub(crate) fn bind(settings: &SocketSettings) -> anyhow::Result<Self> {
        let path = &settings.path;
        check_length(path)?;
        make_directory(path)?;
        let lock = take_lock(path)?;
        let (socket, owned) = bind_at(settings, lock.is_taken_over)?;
        let place = format!("{} (mode {:04o})", path.display(), settings.mode());
        let own = OwnSocket { settings: settings.clone(), path: Some(owned), lock };
        Ok(Self { socket, place, path: SocketPath::Own(own) })
    }

    /// Returns the path of the socket, if it has one that this process can see.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.path {
            SocketPath::Unknown => None,
            SocketPath::Passed(file) => Some(file.path()),
            SocketPath::Own(own) => Some(&own.settings.path),
        }
    }

    /// Returns whether the path still leads to this socket.
    pub(super) fn is_in_place(&self) -> bool {
        match &self.path {
            SocketPath::Unknown => true,
            SocketPath::Passed(file) => file.is_in_place(),
            SocketPath::Own(own) => own.path.as_ref().is_some_and(|path| path.0.is_in_place()),
        }
    }

    /// Returns whether this process made the socket.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.path, SocketPath::Own(_))
    }

    /// Binds the socket again to a path that does not lead to it any more. Connections stay.
    /// Returns a copy of the new socket; `None`, without an effect, if another process serves at
    /// the path.
    ///
    /// # Errors
    /// As [`Listener::bind`]; if systemd made the socket. A later call may succeed.
    pub(super) fn bind_again(&mut self) -> anyhow::Result<Option<UnixListener>> {
        let SocketPath::Own(own) = &mut self.path else { bail!("systemd made the socket") };
        if matches!(Occupant::find(&own.settings.path)?, Occupant::Server { .. }) {
            return Ok(None);
        }
        make_directory(&own.settings.path)?;
        if !own.lock.is_in_place() {
            own.lock = take_lock(&own.settings.path)?;
        }
        // Dropped before the new file is made, which may get the inode number of the removed one.
        own.path = None;
        let (socket, owned) = bind_at(&own.settings, false)?;
        // Without a copy to accept from, the new socket is removed again.
        let copy = socket.try_clone()?;
        self.socket = socket;
        own.path = Some(owned);
        Ok(Some(copy))
    }
}

impl SocketSettings {
    fn mode(&self) -> u32 {
        self.mode.unwrap_or(if geteuid().is_root() { 0o660 } else { 0o600 })
    }
}

fn check_length(path: &Path) -> anyhow::Result<UnixAddr> {
    UnixAddr::new(path).with_context(|| format!("{}: a socket's path has at most 107 bytes", path.display()))
}

/// Makes a socket at a path whose lock this process holds. Replaces a stale one. If the lock
/// belonged to an ending process, also replaces one that does not answer.
fn bind_at(settings: &SocketSettings, is_taken_over: bool) -> anyhow::Result<(UnixListener, OwnedPath)> {
    let path = &settings.path;
    let address = check_length(path)?;
    match Occupant::find(path).with_context(|| path.display().to_string())? {
        Occupant::None => {}
        // Clients have filled its queue, and its process accepts none of them any more.
        Occupant::Server { pid: None } if is_taken_over => fs::remove_file(path)?,
        Occupant::Stale => {
            fs::remove_file(path).with_context(|| format!("cannot remove the stale {}", path.display()))?;
            log::info!("{}: replaced a stale socket, at which no server listened", path.display());
        }
        taken => bail!("{}: {taken}", path.display()),
    }
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("cannot bind {}", path.display()))?;
    let owned = OwnedPath(KnownFile::of(path)?);
    lchown(path, None, settings.group.map(Gid::as_raw))
        .with_context(|| format!("cannot give {} to its group", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(settings.mode()))
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok((socket.into(), owned))
}

/// Returns the inherited descriptor with this number, if it is a Unix stream socket.
fn take_stream_socket(number: RawFd) -> anyhow::Result<UnixListener> {
    let descriptor = take_fd_ownership(number)?;
    let kind = match getsockopt(&descriptor, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => bail!("descriptor {number} is not a socket"),
        kind => kind?,
    };
    let address: SockaddrStorage = getsockname(number)?;
    ensure!(
        (address.family(), kind) == (Some(AddressFamily::Unix), SockType::Stream),
        "descriptor {number} is not a Unix stream socket"
    );
    Ok(descriptor.into())
}

/// Makes the socket's directory if it is missing: readable only by its user, or by all if the user
/// is root.
fn make_directory(socket: &Path) -> anyhow::Result<()> {
    let Some(directory) = socket.parent().filter(|path| !path.as_os_str().is_empty() && !path.exists())
    else {
        return Ok(());
    };
    let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        // Set explicitly, so that the umask has no effect.
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(mode)))
        .with_context(|| format!("cannot make {}", directory.display()))
}

fn take_lock(socket: &Path) -> anyhow::Result<LockFile> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let lock = LockFile::take(&path).with_context(|| format!("cannot lock {}", path.display()))?;
    if let Some(lock) = lock {
        return Ok(lock);
    }
    match Occupant::find(socket) {
        Ok(server @ Occupant::Server { .. }) => bail!("{}: {server}", socket.display()),
        _ => {
            let holder = LockFile::holder(&path).map_or_else(String::new, |pid| format!(" {pid}"));
            bail!(
                "{}: another process{holder} is about to serve there; it holds {}. If that lasts, its socket was \
                 removed: end that process and start the service again",
                socket.display(),
                path.display()
            )
        }
    }
}

/// Kind of the file at a socket's path.
#[derive(Debug, PartialEq, Eq)]
enum Occupant {
    None,
    /// A socket whose server is missing or ending.
    Stale,
    /// A socket with a server; its pid, unless the server hides it or is too busy to report it.
    Server {
        pid: Option<i32>,
    },
    /// A socket of another type.
    OtherSocket,
    NotASocket,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing is there"),
            Self::Stale => f.write_str("the path has a stale socket"),
            Self::Server { pid: Some(pid) } => write!(f, "process {pid} is serving there"),
            Self::Server { pid: None } => f.write_str("another process is serving there"),
            Self::OtherSocket => f.write_str("the path has a socket of another type; remove it first"),
            Self::NotASocket => {
                f.write_str("the path has a file that is no socket; remove it or choose another path")
            }
        }
    }
}

impl Occupant {
    fn find(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Ok(Self::NotASocket),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::None),
            Err(error) => return Err(error),
        }
        // Without waiting: a full queue also has a server.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let probe: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
            Ok(()) => {
                let peer = getsockopt(&probe, sockopt::PeerCredentials)?;
                if is_ending(peer.pid()) {
                    return Ok(Self::Stale);
                }
                Ok(Self::Server { pid: Some(peer.pid()).filter(|pid| *pid > 0) })
            }
            Err(Errno::EAGAIN) => Ok(Self::Server { pid: None }),
            Err(Errno::ECONNREFUSED) => Ok(Self::Stale),
            Err(Errno::EPROTOTYPE) => Ok(Self::OtherSocket),
            Err(Errno::ENOENT) => Ok(Self::None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn the_occupant_of_a_path_is_identified() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let found = |name: &str| Occupant::find(&at(name)).expect("can be told");
        assert_eq!(found("missing"), Occupant::None);
        fs::write(at("file"), "").expect("written");
        assert_eq!(found("file"), Occupant::NotASocket);
        let _datagrams = UnixDatagram::bind(at("datagrams")).expect("bound");
        assert_eq!(found("datagrams"), Occupant::OtherSocket);
        let server = UnixListener::bind(at("server")).expect("bound");
        let pid = i32::try_from(std::process::id()).ok();
        assert_eq!(found("server"), Occupant::Server { pid });
        drop(server);
        // Another test of this process may be starting a program, which has a copy until it
        // executes.
        while found("server") != Occupant::Stale {
            std::thread::yield_now();
        }
        std::os::unix::fs::symlink(at("server"), at("link")).expect("linked");
        assert_eq!(found("link"), Occupant::NotASocket, "a link is never followed");
    }

    #[test]
    fn a_socket_takes_its_files_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sub/s.sock");
        let settings = SocketSettings { path: path.clone(), mode: Some(0o640), group: None };
        let listener = Listener::bind(&settings).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(Listener::bind(&settings).is_err());
        drop(listener);
        assert_eq!(fs::read_dir(directory.path().join("sub")).expect("there").count(), 0);
    }

    #[test]
    fn a_socket_whose_files_are_gone_is_bound_again_and_takes_its_files_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sub/s.sock");
        let settings = SocketSettings { path: path.clone(), mode: Some(0o640), group: None };
        let mut listener = Listener::bind(&settings).expect("bound");
        assert!(listener.is_in_place() && listener.is_own());
        fs::remove_dir_all(directory.path().join("sub")).expect("removed");
        assert!(!listener.is_in_place());
        assert!(listener.bind_again().expect("bound again").is_some());
        assert!(listener.is_in_place());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        let error = Listener::bind(&settings).expect_err("locked again").to_string();
        assert!(error.contains("is serving there"), "{error}");
        drop(listener);
        assert_eq!(fs::read_dir(directory.path().join("sub")).expect("there").count(), 0);
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_by_its_length() {
        let settings =
            SocketSettings { path: PathBuf::from("/tmp").join("x".repeat(108)), mode: None, group: None };
        let error = Listener::bind(&settings).expect_err("too long");
        assert!(error.to_string().contains("at most 107 bytes"), "{error}");
    }
}
