// SPDX-License-Identifier: Apache-2.0
//! The floor: a server that passes descriptors by SCM_RIGHTS, without binder, heaps or accounts.

use anion::testing::MemfdFactory;
use anyhow::ensure;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Most descriptors of one answer.
const BATCH: usize = 16;

/// A request to the server, in eight-byte numbers.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    /// Size of a new memfd; 0 requests the server's own one, opened again.
    pub(crate) bytes: u64,
    /// Number of descriptors, at most 16.
    pub(crate) count: u64,
}

/// Serves at `path`, each connection on a thread of its own.
pub(crate) fn serve(path: &Path) -> anyhow::Result<()> {
    let factory = MemfdFactory::probe()?;
    for stream in UnixListener::bind(path)?.incoming() {
        let stream = stream?;
        std::thread::spawn(move || answer(stream, factory));
    }
    Ok(())
}

fn answer(mut stream: UnixStream, factory: MemfdFactory) -> anyhow::Result<()> {
    let kept = factory.create("kept", 4096)?;
    let kept_path = format!("/proc/self/fd/{}", kept.as_raw_fd());
    let mut question = [0; 8];
    while stream.read_exact(&mut question).is_ok() {
        let Question { bytes, count } = decode(u64::from_le_bytes(question));
        let one = || match bytes {
            0 => File::options().read(true).write(true).open(&kept_path).map(OwnedFd::from),
            bytes => factory.create("raw", bytes),
        };
        let fds = (0..count).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn decode(question: u64) -> Question {
    Question { bytes: question >> 8, count: question & 0xff }
}

/// Sends a request to the server at the other end of `socket`.
pub(crate) fn ask(mut socket: &UnixStream, question: Question) -> anyhow::Result<Vec<OwnedFd>> {
    socket.write_all(&(question.bytes << 8 | question.count).to_le_bytes())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<_> = fds.flatten().collect();
    ensure!(fds.len() as u64 == question.count, "the bare server sent {} descriptors", fds.len());
    Ok(fds)
}
