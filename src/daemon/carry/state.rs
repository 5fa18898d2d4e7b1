// SPDX-License-Identifier: Apache-2.0
//! The state that a service leaves to the next one: the descriptions of live buffers, as bytes.
//!
//! # Format
//! All numbers are little-endian. Texts have one byte for their length before them.
//!
//! | bytes | contents |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 4 | [`VERSION`] |
//! | 4 | CRC-32 of all bytes after it |
//! | 8 | the generation, which the messages with descriptors repeat |
//! | 4 | number of buffers |
//! | … | the buffers |
//!
//! A change of a buffer's fields needs another version. A service that does not know the version
//! takes nothing over.

use crate::allocator::{Graphic, Held};
use crate::sys::fd::Inode;
use crate::units::{BackedBytes, Backing, BufferId, HeapName, Invalid, Label, RequestedBytes, Uid};
use std::time::Duration;

const MAGIC: &[u8; 8] = b"anion-st";
const VERSION: u32 = 1;
/// Bytes before the part that the checksum covers.
const UNCHECKED: usize = 16;
const BACKINGS: [Backing; 6] =
    [Backing::Memfd, Backing::Hugetlb, Backing::Udmabuf, Backing::DmaHeap, Backing::Ion, Backing::Ashmem];

/// Returns the number of a kind of memory.
fn number(backing: Backing) -> u8 {
    match backing {
        Backing::Memfd => 0,
        Backing::Hugetlb => 1,
        Backing::Udmabuf => 2,
        Backing::DmaHeap => 3,
        Backing::Ion => 4,
        Backing::Ashmem => 5,
    }
}

/// The live buffers of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Identifies the service that wrote the state: nanoseconds since boot.
    pub(super) generation: u64,
    /// Its live buffers.
    pub(super) held: Vec<Held>,
}

/// Reason why bytes are no state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it does not begin as a state of the service")]
    Magic,
    #[error("it has version {0}, but this service reads version {VERSION}")]
    Version(u32),
    #[error("its checksum is {found:08x} instead of {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("it ends too early, or has bytes after its end")]
    Length,
    #[error("buffer {0}: {1}")]
    Field(usize, Invalid),
}

impl State {
    /// Returns the bytes of the state.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; UNCHECKED];
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(u32::try_from(self.held.len()).unwrap_or(u32::MAX).to_le_bytes());
        for held in &self.held {
            write(held, &mut bytes);
        }
        begin(&mut bytes);
        bytes
    }

    /// Reads the bytes of a state.
    ///
    /// # Errors
    /// The first reason why they are none.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader(bytes);
        if reader.bytes(8)? != MAGIC {
            return Err(Unreadable::Magic);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        let (expected, found) = (reader.u32()?, crc32fast::hash(reader.0));
        if found != expected {
            return Err(Unreadable::Checksum { found, expected });
        }
        let (generation, count) = (reader.u64()?, reader.u32()?);
        let mut held = Vec::new();
        for index in 0..count as usize {
            held.push(reader.held(index)?);
        }
        if reader.0.is_empty() { Ok(Self { generation, held }) } else { Err(Unreadable::Length) }
    }
}

/// Writes magic, version and checksum into the first bytes of a state.
fn begin(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(&bytes[UNCHECKED..]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..UNCHECKED].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads bytes as a state, for the fuzzer: as they are, and with magic, version and a right
/// checksum in place of the first ones.
///
/// # Panics
/// If a state that was read differs from the one that is read after it was written.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn check(bytes: &[u8]) {
    let mut begun = bytes.to_vec();
    begun.resize(bytes.len().max(UNCHECKED), 0);
    begin(&mut begun);
    for bytes in [bytes, &begun] {
        if let Ok(state) = State::decode(bytes) {
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }
}

fn write(held: &Held, bytes: &mut Vec<u8>) {
    let Held { id, heap, bytes: size, uid, pid, label, graphic, backing, inode, created } = held;
    let nanoseconds = u64::try_from(created.as_nanos()).unwrap_or(u64::MAX);
    for number in [id.0, size.get(), inode.device, inode.number, nanoseconds] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(uid.0.to_le_bytes());
    bytes.extend(pid.to_le_bytes());
    bytes.push(number(*backing));
    for text in [heap.as_str(), label.as_str()] {
        // Both types have at most MAX_NAME_BYTES bytes.
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend(text.as_bytes());
    }
    bytes.push(u8::from(graphic.is_some()));
    if let Some((Graphic { width, height, format, usage }, metadata)) = graphic {
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend(format.to_le_bytes());
        bytes.extend(usage.to_le_bytes());
        bytes.extend(metadata.get().to_le_bytes());
    }
}

/// The bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Length)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Unreadable::Length)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, Unreadable> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        let count = self.u8()?.into();
        Ok(String::from_utf8_lossy(self.bytes(count)?).into_owned())
    }

    fn size(&mut self, index: usize) -> Result<BackedBytes, Unreadable> {
        let bytes = RequestedBytes(i64::from_le_bytes(self.array()?));
        bytes.round_up(1).map_err(|invalid| Unreadable::Field(index, invalid))
    }

    fn held(&mut self, index: usize) -> Result<Held, Unreadable> {
        let field = |invalid| Unreadable::Field(index, invalid);
        let (id, bytes) = (BufferId(self.u64()?), self.size(index)?);
        let inode = Inode { device: self.u64()?, number: self.u64()? };
        let created = Duration::from_nanos(self.u64()?);
        let (uid, pid, kind) = (Uid(self.u32()?), self.i32()?, self.u8()?);
        let backing = BACKINGS.into_iter().find(|backing| number(*backing) == kind);
        let unknown = || Invalid::new("kind of memory", kind, format!("it must be below {}", BACKINGS.len()));
        let backing = backing.ok_or_else(|| field(unknown()))?;
        let heap = HeapName::new(&self.text()?).map_err(field)?;
        let label = Label::new(&self.text()?).map_err(field)?;
        let graphic = match self.u8()? {
            0 => None,
            _ => {
                let (width, height, format) = (self.u32()?, self.u32()?, self.i32()?);
                let graphic = Graphic { width, height, format, usage: self.u64()? };
                Some((graphic, self.size(index)?))
            }
        };
        Ok(Held { id, heap, bytes, uid, pid, label, graphic, backing, inode, created })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The fuzzer begins with these states.
    const EMPTY: &[u8] = include_bytes!("../../../fuzz/corpus/state/empty");
    const BUFFER: &[u8] = include_bytes!("../../../fuzz/corpus/state/buffer");
    const IMAGE: &[u8] = include_bytes!("../../../fuzz/corpus/state/image");

    fn held(id: u64, graphic: bool) -> Held {
        let size = |bytes| RequestedBytes(bytes).round_up(1).expect("positive");
        let image = Graphic { width: 640, height: 480, format: -1, usage: 1 << 40 };
        Held {
            id: BufferId(id),
            heap: HeapName::new("system").expect("valid"),
            bytes: size(8192),
            uid: Uid(1000),
            pid: 42,
            label: Label::new("preview 1").expect("valid"),
            graphic: graphic.then(|| (image, size(65536))),
            backing: Backing::Hugetlb,
            inode: Inode { device: 7, number: u64::MAX },
            created: Duration::from_nanos(123_456_789),
        }
    }

    fn state() -> State {
        State { generation: 99, held: vec![held(1, false), held(2, true), held(u64::MAX, false)] }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for state in [state(), State { generation: 0, held: Vec::new() }] {
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        for (bytes, held) in
            [(EMPTY, Vec::new()), (BUFFER, vec![held(1, false)]), (IMAGE, vec![held(2, true)])]
        {
            assert_eq!(State { generation: 99, held }.encode(), bytes);
        }
    }

    #[test]
    fn changed_bits_and_early_ends_behind_a_right_checksum_are_read_or_refused() {
        let bytes = state().encode();
        for at in UNCHECKED..bytes.len() {
            check(&bytes[..at]);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                check(&changed);
            }
        }
    }

    #[test]
    fn a_state_of_another_version_is_refused_by_its_number() {
        let mut bytes = state().encode();
        bytes[8] = 2;
        let error = State::decode(&bytes).expect_err("newer");
        assert_eq!(error.to_string(), "it has version 2, but this service reads version 1");
    }

    #[test]
    fn a_part_of_a_state_is_refused_and_so_is_more_than_one() {
        let bytes = state().encode();
        for end in 0..bytes.len() {
            assert!(State::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(State::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_detected(bit in 0..8 * state().encode().len()) {
            let mut bytes = state().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(State::decode(&bytes).is_err());
        }
    }
}
