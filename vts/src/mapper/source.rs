// SPDX-License-Identifier: Apache-2.0
//! The source of handles: a process at the other end of a socket.
//!
//! A request is a [`Wanted`] of [`Wanted::BYTES`] bytes. The answer begins with a number of four
//! bytes: the count of the handle's numbers, or [`UNSUPPORTED`] or [`FAILED`]. The stride follows,
//! then the numbers of the handle, with its descriptors.

use super::sys::{Native, receive, send};
use anyhow::{Context, Result, bail, ensure};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// Such a buffer is impossible.
const UNSUPPORTED: i32 = -1;
/// The allocation failed.
const FAILED: i32 = -2;
/// Most bytes of an answer.
const LARGEST: usize = 8192;

/// The description of a buffer: the fields of `BufferDescriptorInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// At most 127 bytes.
    pub(crate) name: String,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) layers: i32,
    pub(crate) format: i32,
    pub(crate) usage: i64,
    pub(crate) reserved: i64,
}

impl Wanted {
    const BYTES: usize = 160;

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.name.as_bytes().iter().take(127).copied().collect::<Vec<_>>();
        bytes.resize(128, 0);
        for number in [self.width, self.height, self.layers, self.format] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.usage.to_le_bytes());
        bytes.extend(self.reserved.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let name = bytes[..128].split(|byte| *byte == 0).next().unwrap_or_default();
        let (words, _) = bytes[128..144].as_chunks();
        let (longs, _) = bytes[144..].as_chunks();
        let word = |at: usize| i32::from_le_bytes(words[at]);
        let long = |at: usize| i64::from_le_bytes(longs[at]);
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            width: word(0),
            height: word(1),
            layers: word(2),
            format: word(3),
            usage: long(0),
            reserved: long(1),
        }
    }
}

/// The allocator's reply for a buffer.
#[derive(Debug)]
pub(crate) struct Allocated {
    pub(crate) stride: i32,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) ints: Vec<i32>,
}

/// The connection to the process that allocates.
pub(crate) struct Source(Mutex<UnixStream>);

impl Source {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(socket))
    }

    /// Requests a buffer. Returns its stride and its handle; `None` if it is unsupported.
    ///
    /// # Errors
    /// If the allocation of a supported buffer failed.
    pub(crate) fn allocate(&self, wanted: &Wanted) -> Result<Option<(i32, Native)>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        send(&socket, &wanted.to_bytes(), &[])?;
        let mut answer = [0; LARGEST];
        let (length, fds) = receive(&socket, &mut answer)?;
        let (words, _) = answer[..length].as_chunks();
        let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let [kind, stride, ints @ ..] = words.as_slice() else { bail!("the allocating process has ended") };
        match *kind {
            UNSUPPORTED => Ok(None),
            FAILED => bail!(
                "{wanted:?} cannot be allocated; the standard error of the allocating process has the reason"
            ),
            count => {
                ensure!(
                    usize::try_from(count).is_ok_and(|count| count == ints.len()),
                    "the answer is cut off"
                );
                Ok(Some((*stride, Native::new(fds, ints)?)))
            }
        }
    }
}

/// Answers requests from a socket, until the other end closes it.
///
/// # Errors
/// If the socket fails.
#[expect(clippy::print_stderr, reason = "the other process has no other way to say what went wrong")]
pub(crate) fn serve(
    socket: &UnixStream,
    allocate: impl Fn(&Wanted) -> Result<Option<Allocated>>,
) -> Result<()> {
    loop {
        let mut bytes = [0; Wanted::BYTES];
        match receive(socket, &mut bytes)?.0 {
            0 => return Ok(()),
            length => ensure!(length == bytes.len(), "the request is cut off"),
        }
        let wanted = Wanted::from_bytes(&bytes);
        let (mut words, mut fds) = (vec![FAILED, 0], Vec::new());
        match allocate(&wanted) {
            Ok(Some(allocated)) => {
                words = vec![i32::try_from(allocated.ints.len()).context("numbers")?, allocated.stride];
                words.extend(allocated.ints);
                fds = allocated.fds;
            }
            Ok(None) => words[0] = UNSUPPORTED,
            Err(error) => eprintln!("{wanted:?}: {error:#}"),
        }
        let answer: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        send(socket, &answer, &fds)?;
    }
}
