// SPDX-License-Identifier: Apache-2.0
//! RPC binder over Unix sockets that the caller accepts.
//!
//! The library's own accept loop polls; here the daemon accepts, counts and identifies connections,
//! and hands each one over. A connection is served on its own thread. Nothing wakes up while no
//! client talks.

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

/// Connections for calls that one client's session may have, hence calls of it that can run at
/// once. It may have twice as many over which it takes calls.
const MAX_SESSION_THREADS: u32 = 8;
/// Time that a client may take to read a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one binder object over connected Unix sockets.
pub struct SocketServer {
    rpc: Arc<RpcServer>,
}

impl SocketServer {
    /// Returns a server whose root object is `service`: what `RpcSession::getRootObject` of AOSP's
    /// libbinder and `ARpcSession_setupPreconnectedClient` of its NDK give.
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

    /// Serves `stream` on a thread of its own until the client leaves, or does what `permit` does
    /// not admit. The permit is dropped when the connection is gone, also if it never becomes a
    /// session: a client has ten seconds for its handshake.
    ///
    /// # Errors
    /// If the socket is already dead.
    pub fn serve(&self, stream: UnixStream, permit: impl Permit) -> io::Result<()> {
        let transport =
            Transport::accepting(stream, permit).map_err(|error| io::Error::other(error.to_string()))?;
        self.rpc.serve_connection(Box::new(transport));
        Ok(())
    }

    /// Tells a client why its connection is not served. Does not wait for the client.
    pub fn refuse(stream: &UnixStream, reason: &str) {
        send_refusal(stream, reason);
    }

    /// Ends every session and refuses new ones. Waits at most `patience` for calls that are being
    /// answered and for clients in their handshake; says whether all of them ended.
    pub fn stop(&self, patience: Duration) -> bool {
        let rpc = Arc::clone(&self.rpc);
        let (done, ended) = mpsc::channel();
        let spawned = thread::Builder::new().name("rpc-stop".to_owned()).spawn(move || {
            rpc.terminate();
            // The receiver is gone if patience ran out.
            let _ = done.send(());
        });
        spawned.is_ok() && ended.recv_timeout(patience).is_ok()
    }
}

/// Returns a server that cannot be reached. The library's server always owns a listening socket;
/// this one's is never accepted from, so it is put where no client can connect: bound in a private
/// directory and unlinked at once.
fn unreachable_server() -> io::Result<Arc<RpcServer>> {
    // Of the kernel itself: /proc may show processes alone.
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
    // No temporary directory, as in a minimal root, or a longer path than a socket can have: an
    // abstract name that is told to no client serves as well. A process that finds it can fill its
    // backlog, and nothing else.
    RpcServer::setup_unix_server_abstract(token.as_bytes()).map_err(library_failure)
}

fn remove(directory: &Path) {
    // Left-overs of either are empty, private and harmless.
    let _ = fs::remove_file(directory.join("unused"));
    let _ = fs::remove_dir(directory);
}

fn library_failure(code: StatusCode) -> io::Error {
    io::Error::other(format!("cannot set up the RPC server: {code:?}"))
}
