// SPDX-License-Identifier: Apache-2.0
//! Serves metrics over HTTP/1.0 on a Unix socket: the same answer for each connection.

use crate::failure::Failure;
use crate::interrupt::{Interrupt, Ready};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The media type of the answer.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Time limit for a client's request, and for reading the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of a request.
const MOST_BYTES: u64 = 8 << 10;

/// A socket that is removed when it is dropped.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Fails only if another process removed the socket before.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers connections to the socket `path` with the result of `document`, until SIGINT or SIGTERM.
///
/// # Errors
/// [`Failure::Local`] if the socket cannot be created.
pub(super) fn serve(path: &Path, document: impl Fn() -> Result<String, Failure>) -> Result<(), Failure> {
    let mut interrupt = Interrupt::new()?;
    let what = format!("cannot serve metrics at {}", path.display());
    let socket = bind(path).map_err(|error| Failure::local(&what, &error))?;
    while interrupt.wait_for(socket.listener.as_fd())? == Ready::Readable {
        match socket.listener.accept() {
            // A failure of one client does not end the server.
            Ok((client, _)) => {
                if let Err(error) = answer(client, &document) {
                    log::debug!("a client of the metrics: {error}");
                }
            }
            Err(error) => return Err(Failure::local(&what, &error)),
        }
    }
    Ok(())
}

/// Binds the socket. A stale socket is replaced.
fn bind(path: &Path) -> io::Result<Socket> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refuses =
        || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && refuses() {
        fs::remove_file(path)?;
    }
    Ok(Socket { listener: UnixListener::bind(path)?, path: path.to_owned() })
}

/// Reads a request and answers it.
fn answer(client: UnixStream, document: impl Fn() -> Result<String, Failure>) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new((&client).take(MOST_BYTES)).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.trim().is_empty()) {}
    let (status, kind, body) = match document() {
        Ok(body) => ("200 OK", TYPE, body),
        Err(failure) => {
            let why = failure.message().unwrap_or_default();
            ("503 Service Unavailable", "text/plain; charset=utf-8", format!("{why}\n"))
        }
    };
    let head = format!("HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    (&client).write_all(head.as_bytes())?;
    (&client).write_all(body.as_bytes())
}
