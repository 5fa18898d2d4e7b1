// SPDX-License-Identifier: Apache-2.0
//! RPC binder over Unix sockets that the caller accepts.
//!
//! The library's own accept loop polls; here the daemon accepts, counts and identifies connections,
//! and passes each one to this module. Each connection is served on its own thread. No thread wakes
//! up while no client sends.

use crate::linux::WIRE_VERSION;
use crate::linux::permit::Permit;
use crate::linux::transport::{Transport, send_refusal};
use rsbinder::rpc::{FileDescriptorTransportMode, PeerIdentity, RpcServer};
use rsbinder::{FromIBinder, StatusCode, Strong};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Connections for calls in one client's session, and so its concurrent calls. It may have twice as
/// many connections over which it receives calls.
const MAX_SESSION_THREADS: u32 = 8;
/// Time that a client may take to read a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one binder object over connected Unix sockets.
pub struct SocketServer {
    rpc: Arc<RpcServer>,
}

impl SocketServer {
    /// Returns a server whose root object is `service`: the object that `RpcSession::getRootObject`
    /// of AOSP's libbinder and `ARpcSession_setupPreconnectedClient` of its NDK return.
    ///
    /// # Errors
    /// If the library cannot be set up: no temporary directory and no abstract sockets.
    pub fn new<I: FromIBinder + ?Sized>(service: &Strong<I>) -> io::Result<Self> {
        let rpc = unreachable_server()?;
        rpc.set_root(service.into())
            .map_err(|code| io::Error::other(format!("cannot serve the root object: {code:?}")))?;
        rpc.set_max_threads(MAX_SESSION_THREADS);
        rpc.set_android13plus(WIRE_VERSION);
        rpc.set_supported_fd_modes(&[FileDescriptorTransportMode::Unix]);
        rpc.set_reply_timeout(Some(REPLY_TIMEOUT));
        rpc.set_authorizer(|peer: &PeerIdentity| peer.uid().is_some());
        Ok(Self { rpc })
    }

    /// Serves `stream` on a thread of its own until the client closes it, or `permit` refuses.
    /// Drops the permit when the connection is closed, even if the handshake was not finished; a
    /// client has ten seconds for it.
    ///
    /// # Errors
    /// If the socket is already dead.
    pub fn serve(&self, stream: UnixStream, permit: impl Permit) -> io::Result<()> {
        let transport =
            Transport::accepting(stream, permit).map_err(|error| io::Error::other(error.to_string()))?;
        self.rpc.serve_connection(Box::new(transport));
        Ok(())
    }

    /// Sends a client the reason why its connection is not served. Does not wait for the client.
    pub fn refuse(stream: &UnixStream, reason: &str) {
        send_refusal(stream, reason);
    }

    /// Ends every session and refuses new ones. Waits at most `patience` for running calls and
    /// handshakes. Returns whether all of them ended.
    pub fn stop(&self, patience: Duration) -> bool {
        let rpc = Arc::clone(&self.rpc);
        let (done, ended) = mpsc::channel();
        let spawned = thread::Builder::new().name("rpc-stop".to_owned()).spawn(move || {
            rpc.terminate();
            // The receiver is dropped if `patience` is over.
            let _ = done.send(());
        });
        spawned.is_ok() && ended.recv_timeout(patience).is_ok()
    }
}

/// Returns a server that cannot be reached. The library's server always owns a listening socket.
/// This one never accepts from it, so it binds the socket in a private directory and unlinks it at
/// once.
fn unreachable_server() -> io::Result<Arc<RpcServer>> {
    // From the kernel: a /proc that shows only processes has no such file.
    let mut random = [0; 16];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let token = format!("{:032x}", u128::from_ne_bytes(random));
    let directory = std::env::temp_dir().join(format!("anion-{token}"));
    if DirBuilder::new().mode(0o700).create(&directory).is_ok() {
        let server = RpcServer::setup_unix_server(directory.join("unused"));
        remove(&directory);
        if let Ok(server) = server {
            return Ok(server);
        }
    }
    // Without a temporary directory, as in a minimal root, or with a path too long for a socket, an
    // abstract name that no client gets also works. A process that finds it can only fill its
    // backlog.
    RpcServer::setup_unix_server_abstract(token.as_bytes()).map_err(library_failure)
}

fn remove(directory: &Path) {
    // Remains of a failure are empty, private and harmless.
    let _ = fs::remove_file(directory.join("unused"));
    let _ = fs::remove_dir(directory);
}

fn library_failure(code: StatusCode) -> io::Error {
    io::Error::other(format!("cannot set up the RPC server: {code:?}"))
}
