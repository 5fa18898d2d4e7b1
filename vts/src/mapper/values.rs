// SPDX-License-Identifier: Apache-2.0
//! Decoded metadata of a buffer.

use super::decode::{Plane, Reader, planes};
use super::source::Wanted;
use super::suite::{Buffer, Suite};
use anyhow::{Context, Result, anyhow};
use std::os::fd::OwnedFd;

/// The dump of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dumped {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) sides: (i64, i64),
    pub(crate) format: i32,
    pub(crate) usage: i64,
    pub(crate) bytes: i64,
}

impl Suite {
    /// Allocates and imports a buffer, and has the mapper dump all buffers. Returns the descriptor
    /// of its pixels, and the buffer's part of the dump.
    ///
    /// # Errors
    /// If the allocation failed, or the dump lacks it.
    pub(crate) fn dumped(&self, wanted: &Wanted) -> Result<(OwnedFd, Dumped)> {
        let raw = self.allocate(wanted)?;
        let buffer = self.import(&raw)?;
        let own = buffer.encoded(1)?;
        let all = self.mapper.dump_all().map_err(|code| anyhow!("dumpAllBuffers returns {code}"))?;
        let mut all = all.into_iter();
        let found = all.find(|values| values.iter().any(|(_, number, value)| *number == 1 && *value == own));
        let values = found.context("the dump of all buffers lacks one")?;
        let reader = |number: i64| {
            let value = values.iter().find(|(_, other, _)| *other == number);
            Reader::new(&value.with_context(|| format!("type {number} is not dumped"))?.2, number)
        };
        let dumped = Dumped {
            id: reader(1)?.long()?,
            name: reader(2)?.text()?,
            sides: (reader(3)?.long()?, reader(4)?.long()?),
            format: reader(6)?.word()?,
            usage: reader(9)?.long()?,
            bytes: reader(10)?.long()?,
        };
        Ok((raw.native.fds()[0].try_clone()?, dumped))
    }
}

impl Buffer<'_> {
    fn one<T>(&self, number: i64, read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
        let value = self.encoded(number)?;
        let mut reader = Reader::new(&value, number)?;
        let decoded = read(&mut reader).with_context(|| format!("metadata of type {number}"))?;
        reader.end()?;
        Ok(decoded)
    }

    pub(super) fn word(&self, number: i64) -> Result<i32> {
        self.one(number, |reader| reader.word())
    }

    pub(super) fn long(&self, number: i64) -> Result<i64> {
        self.one(number, |reader| reader.long())
    }

    pub(super) fn text(&self, number: i64) -> Result<String> {
        self.one(number, |reader| reader.text())
    }

    pub(super) fn extendable(&self, number: i64) -> Result<(String, i64)> {
        self.one(number, |reader| reader.extendable())
    }

    /// Returns the rectangles of CROP.
    pub(super) fn crop(&self) -> Result<Vec<[i32; 4]>> {
        self.one(16, |reader| {
            (0..reader.count()?)
                .map(|_| Ok([reader.word()?, reader.word()?, reader.word()?, reader.word()?]))
                .collect()
        })
    }

    /// Returns PLANE_LAYOUTS.
    pub(super) fn planes(&self) -> Result<Vec<Plane>> {
        self.one(15, planes)
    }
}
