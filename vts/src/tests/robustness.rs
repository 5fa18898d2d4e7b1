// SPDX-License-Identifier: Apache-2.0
//! Tests that a faulty or hostile client cannot harm other clients.

use crate::harness::Fixture;
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{AllocationRequest, ErrorCode};
use crate::request::{from_any, from_heap, from_names};
use crate::sys::{Mapping, punch_hole, send_descriptor};
use anion_ipc::Endpoint;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

tests![
    Shared garbage_on_the_socket_disturbs_no_other_client,
    Shared silent_connections_disturb_no_other_client,
    Shared descriptors_in_garbage_are_closed,
    Shared endless_lists_are_refused,
    Quiet seals_of_a_client_do_not_spoil_reuse,
    Quiet marks_of_a_client_do_not_spoil_reuse,
];

fn socket(fixture: &Fixture) -> Result<&Path> {
    match &fixture.target.endpoint {
        Endpoint::Socket(path) => Ok(path),
        Endpoint::Binder(_) => {
            inapplicable("the kernel reads the stream of a binder device, not the service")
        }
    }
}

/// Returns reproducible noise (xorshift).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn expect_service_works(fixture: &Fixture) -> Result<()> {
    let fresh = fixture.connect().context("connecting again")?;
    fresh.service.allocate(&from_any(1))?;
    fixture.allocate_one(&from_any(1))?;
    Ok(())
}

fn garbage_on_the_socket_disturbs_no_other_client(fixture: &Fixture) -> Result<()> {
    let path = socket(fixture)?;
    let mut streams =
        vec![vec![0; 4096], vec![0xff; 4096], vec![0x7f; 64], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    streams.extend((1..=28).map(|seed| noise(seed, 1 << (seed % 14))));
    for bytes in streams {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        // The service may close the connection at any point.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        // Waits until the service has closed it, so that dead connections do not reach the uid's
        // maximum.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // The same after the beginning of a session; any answer is accepted.
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let _ = stream.write_all(&[0; 32]);
    let _ = stream.read(&mut [0; 256]);
    let _ = stream.write_all(&noise(99, 65536));
    expect_service_works(fixture)
}

/// Half-open connections, as many as a small connection limit permits.
fn silent_connections_disturb_no_other_client(fixture: &Fixture) -> Result<()> {
    let path = socket(fixture)?;
    let _silent = (0..4).map(|_| UnixStream::connect(path)).collect::<std::io::Result<Vec<_>>>()?;
    expect_service_works(fixture)
}

/// A descriptor that no valid message explains is closed.
fn descriptors_in_garbage_are_closed(fixture: &Fixture) -> Result<()> {
    let path = socket(fixture)?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut stream = UnixStream::connect(path)?;
    // The service may have closed the connection.
    let _ = send_descriptor(&stream, &writer);
    let _ = stream.write_all(&noise(7, 4096));
    drop(stream);
    drop(writer);
    // Ends when no process has the writing end.
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(reader.read_to_end(&mut Vec::new()).is_ok()));
    // Longer than the handshake timeout of any service.
    let is_closed = finished.recv_timeout(Duration::from_secs(120));
    check_eq!(is_closed, Ok(true), "whether a descriptor sent with garbage was closed");
    expect_service_works(fixture)
}

fn endless_lists_are_refused(fixture: &Fixture) -> Result<()> {
    let message =
        fixture.refused(&from_names(&["no-such-heap"; 5000], 1), &[ErrorCode::BAD_REQUEST])?.message;
    ensure!(message.len() < 4096, "5000 names bring a message of {} bytes", message.len());
    let name = "x".repeat(64 << 10);
    let codes = [ErrorCode::BAD_REQUEST, ErrorCode::UNKNOWN_HEAP];
    let message = fixture.refused(&from_names(&[&name], 1), &codes)?.message;
    ensure!(message.len() < 4096, "a name of 64 KiB brings a message of {} bytes", message.len());
    Ok(())
}

/// Checks that the next buffers of this kind are complete, zero and writable.
fn expect_fresh(fixture: &Fixture, request: &AllocationRequest) -> Result<()> {
    for buffer in fixture.allocate(request)? {
        let mapping = Mapping::writable(&buffer.fd, buffer.size)
            .with_context(|| format!("buffer {} cannot be mapped for writing", buffer.id))?;
        check_eq!(mapping.first_other_than(0), None, "first word that is not zero in buffer {}", buffer.id);
        mapping.fill(u64::MAX);
    }
    Ok(())
}

/// A seal that a client adds can never be removed: such a file must not be reused.
fn seals_of_a_client_do_not_spoil_reuse(fixture: &Fixture) -> Result<()> {
    let heap = fixture.roomy()?;
    let request = AllocationRequest { count: 4, ..from_heap(heap.id, 64 << 10) };
    let mut sealed = 0;
    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE, SealFlag::F_SEAL_SEAL] {
        for buffer in fixture.allocate(&request)? {
            sealed += u32::from(fcntl(&buffer.fd, FcntlArg::F_ADD_SEALS(seal)).is_ok());
        }
        fixture.await_holding(0, 0)?;
        expect_fresh(fixture, &request)
            .with_context(|| format!("after buffers were sealed with {seal:?}"))?;
    }
    fixture.await_holding(0, 0)?;
    if sealed == 0 { inapplicable("clients cannot seal buffers of this service") } else { Ok(()) }
}

/// Holes and a file position of one client must not reach the next.
fn marks_of_a_client_do_not_spoil_reuse(fixture: &Fixture) -> Result<()> {
    use nix::unistd::{Whence, lseek};
    let heap = fixture.roomy()?;
    let request = AllocationRequest { count: 4, ..from_heap(heap.id, 64 << 10) };
    for _ in 0..3 {
        for buffer in fixture.allocate(&request)? {
            check_eq!(lseek(&buffer.fd, 0, Whence::SeekCur).unwrap_or(0), 0, "position of a new descriptor");
            Mapping::writable(&buffer.fd, buffer.size)?.fill(1);
            // dma-bufs have neither holes nor a position.
            let _ = punch_hole(&buffer.fd, 4096, 4096);
            let _ = lseek(&buffer.fd, 4096, Whence::SeekSet);
        }
        fixture.await_holding(0, 0)?;
        expect_fresh(fixture, &request)?;
        fixture.await_holding(0, 0)?;
    }
    Ok(())
}
