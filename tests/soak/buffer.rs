// SPDX-License-Identifier: Apache-2.0
//! A buffer of a client. It must be zero at first; after the client has stamped it, it must have
//! that stamp until its last holder closes it.

use anion::testing::page_size;
use anion_memory::Access;
use anion_memory::map::SharedMap;
use nix::errno::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;

/// Bytes of a word.
const WORD: usize = size_of::<u64>();
/// Bytes that are compared at a time.
const PIECE: usize = 64 << 10;
/// Data that is sent with a descriptor: size, stamp, stamped pages.
const MESSAGE_BYTES: usize = 3 * WORD;

/// What a client wrote to a buffer: `word` as the first and the last word of its first `pages`
/// pages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamp {
    pub(crate) word: u64,
    pub(crate) pages: usize,
}

/// A buffer that is held by descriptors, by a mapping, or by both.
pub(crate) struct Held {
    pub(crate) id: i64,
    pub(crate) bytes: usize,
    files: Vec<File>,
    map: Option<SharedMap>,
    stamp: Stamp,
}

impl Held {
    pub(crate) fn new(id: i64, bytes: usize, descriptor: impl Into<OwnedFd>) -> Self {
        let files = vec![File::from(descriptor.into())];
        Self { id, bytes, files, map: None, stamp: Stamp::default() }
    }

    /// Returns the first descriptor; `None` if only a mapping holds the buffer.
    pub(crate) fn file(&self) -> Option<&File> {
        self.files.first()
    }

    /// Checks every byte: through the mapping if there is one, else through the descriptor, which
    /// makes no page present.
    pub(crate) fn check_zero(&self) {
        if let Some(map) = &self.map {
            assert!(map.is_zero(), "new buffer {} of {} bytes is not zero", self.id, self.bytes);
            return;
        }
        let (mut piece, zeroes) = (vec![1; PIECE.min(self.bytes)], [0; PIECE]);
        let file = self.file().expect("new buffers come as descriptors");
        let length = file.metadata().expect("a file").len();
        assert_eq!(length, self.bytes as u64, "buffer {} has another size than its reply says", self.id);
        for offset in (0..self.bytes).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(self.bytes - offset)];
            file.read_exact_at(piece, offset as u64).expect("readable to its end");
            let dirty = || piece.iter().position(|byte| *byte != 0);
            assert!(
                *piece == zeroes[..piece.len()],
                "new buffer {} of {} bytes is not zero at {:?}",
                self.id,
                self.bytes,
                dirty().map(|at| offset + at)
            );
        }
    }

    /// Maps it, which makes all its pages present, and checks the ends of every page through the
    /// mapping.
    pub(crate) fn map(&mut self, access: Access) -> io::Result<()> {
        if self.map.is_none() {
            let file = self.files.first().expect("without a mapping there is a descriptor");
            self.map = Some(SharedMap::new(file, self.bytes, access)?);
        }
        Ok(())
    }

    /// Checks the first and the last word of every page through the mapping.
    pub(crate) fn check_mapped_zero(&self) {
        for offset in page_ends(self.bytes, usize::MAX) {
            let word = self.word_at(offset);
            assert_eq!(word, 0, "new buffer {} of {} bytes, offset {offset}", self.id, self.bytes);
        }
    }

    /// Stamps its first pages.
    pub(crate) fn stamp(&mut self, stamp: Stamp) {
        for offset in page_ends(self.bytes, stamp.pages) {
            let word = stamp.word.to_ne_bytes();
            match &self.map {
                Some(map) => map.write_at(offset, &word),
                None => self.files[0].write_all_at(&word, offset as u64),
            }
            .expect("open for writing");
        }
        self.stamp = stamp;
    }

    /// Checks that neither another process nor the service has written to it.
    pub(crate) fn check_stamp(&self) {
        for offset in page_ends(self.bytes, self.stamp.pages) {
            let (found, expected) = (self.word_at(offset), self.stamp.word);
            assert_eq!(
                found, expected,
                "buffer {} of {} bytes changed at {offset} while it was held: {found:#x}, not {expected:#x}",
                self.id, self.bytes
            );
        }
    }

    fn word_at(&self, offset: usize) -> u64 {
        let mut word = [0; WORD];
        match &self.map {
            Some(map) => map.read_at(offset, &mut word).expect("inside"),
            None => self.files[0].read_exact_at(&mut word, offset as u64).expect("inside"),
        }
        u64::from_ne_bytes(word)
    }

    /// Adds a descriptor of the same description as a holder.
    pub(crate) fn duplicate(&mut self) -> io::Result<()> {
        let copy = self.files.first().map(File::try_clone).transpose()?;
        self.files.extend(copy);
        Ok(())
    }

    /// Adds a descriptor of another description as a holder.
    pub(crate) fn open_again(&mut self) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        if let Some(file) = self.files.first() {
            // The file's mode refuses other uids.
            match File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
                Ok(again) => self.files.push(again),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes all descriptors, so that only the mapping holds it.
    pub(crate) fn close_descriptors(&mut self) {
        if self.map.is_some() {
            self.files.clear();
        }
    }

    /// Sends it to the next reader at the other end. Returns false if only a mapping holds it, or
    /// if the queue is full.
    pub(crate) fn pass_on(&self, exchange: &UnixDatagram) -> io::Result<bool> {
        let Some(file) = self.file() else { return Ok(false) };
        let words = [self.bytes as u64, self.stamp.word, self.stamp.pages as u64];
        let message = words.map(u64::to_ne_bytes).concat();
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is room for one");
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(exchange, &[IoSlice::new(&message)], &mut control, flags).map_err(io::Error::from) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // Too many descriptors of this user are in messages.
            Err(error) if error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives a buffer from the other end, if one was sent.
    pub(crate) fn receive(exchange: &UnixDatagram) -> io::Result<Option<Self>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut message = [0; MESSAGE_BYTES];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(exchange, &mut [IoSliceMut::new(&mut message)], &mut control, flags);
        match received.map_err(io::Error::from) {
            Ok(received) => assert_eq!(received.bytes, MESSAGE_BYTES, "messages come whole"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let words: Vec<u64> =
            message.as_chunks().0.iter().map(|word: &[u8; WORD]| u64::from_ne_bytes(*word)).collect();
        let size = |word: u64| usize::try_from(word).expect("a size of this machine");
        let mut held = Self::new(0, size(words[0]), descriptor.expect("each message carries a descriptor"));
        held.stamp = Stamp { word: words[1], pages: size(words[2]) };
        Ok(Some(held))
    }
}

/// Returns the offsets of the first and the last word of each of the first `pages` pages.
fn page_ends(bytes: usize, pages: usize) -> impl Iterator<Item = usize> {
    let page = usize::try_from(page_size().expect("known").bytes()).expect("small");
    (0..bytes).step_by(page).take(pages).flat_map(move |start| [start, start + page - WORD])
}
