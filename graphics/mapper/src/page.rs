// SPDX-License-Identifier: Apache-2.0
//! Reads and writes the metadata file of a buffer while other processes may write to it.
//!
//! The code copies every value before it checks it. Correctness does not depend on the values.

use crate::error::Error;
use anion_handle::metadata::{self, Bounded, HEAD, MAGIC, NAME, Optional, Place, VERSION};
use anion_memory::map::SharedMap;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The metadata of a buffer, mapped.
#[derive(Debug)]
pub(crate) struct Page {
    map: SharedMap,
}

/// Value of a flag while a value is set.
const SET: i32 = 1;
const UNSET: i32 = 0;

impl Page {
    /// Maps the metadata and a region of `reserved_size` bytes. The file must have these bytes.
    ///
    /// # Errors
    /// `BadBuffer` if the file does not begin with the header of metadata, or cannot be mapped;
    /// `NoResources` if no address space is left.
    pub(crate) fn map(fd: impl AsFd, reserved_size: u64) -> Result<Self, Error> {
        let bytes = usize::try_from(metadata::size(reserved_size)).map_err(|_| Error::NoResources)?;
        let page = Self { map: SharedMap::sparse(fd, bytes)? };
        let mut expected = MAGIC.to_le_bytes().to_vec();
        expected.extend(VERSION.to_le_bytes());
        if page.read(HEAD)? == expected { Ok(page) } else { Err(Error::BadBuffer) }
    }

    fn read(&self, place: Place) -> Result<Vec<u8>, Error> {
        self.read_first(place, place.bytes)
    }

    /// Reads the first bytes of a place.
    fn read_first(&self, place: Place, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut value = vec![0; bytes.min(place.bytes)];
        self.map.read_at(place.offset, &mut value)?;
        Ok(value)
    }

    /// Returns a number of four bytes.
    pub(crate) fn number(&self, place: Place) -> Result<i32, Error> {
        let mut bytes = [0; 4];
        self.map.read_at(place.offset, &mut bytes)?;
        Ok(i32::from_le_bytes(bytes))
    }

    /// Writes a number of four bytes.
    pub(crate) fn set_number(&self, place: Place, value: i32) -> Result<(), Error> {
        Ok(self.map.write_at(place.offset, &value.to_le_bytes())?)
    }

    /// Returns the buffer's name, without its NUL.
    pub(crate) fn name(&self) -> Result<Vec<u8>, Error> {
        let mut name = self.read(NAME)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len() - 1));
        Ok(name)
    }

    /// Returns a value; `None` if it is unset.
    pub(crate) fn optional(&self, of: Optional) -> Result<Option<Vec<u8>>, Error> {
        if self.number(of.is_set)? == UNSET { Ok(None) } else { self.read(of.value).map(Some) }
    }

    /// Sets a value, which must be complete, or unsets it.
    pub(crate) fn set_optional(&self, of: Optional, value: Option<&[u8]>) -> Result<(), Error> {
        if let Some(value) = value {
            self.map.write_at(of.value.offset, value.get(..of.value.bytes).ok_or(Error::Unsupported)?)?;
        }
        self.set_number(of.is_set, if value.is_some() { SET } else { UNSET })
    }

    /// Returns a value of at most the length of its range; `None` if it is unset.
    pub(crate) fn bounded(&self, of: Bounded) -> Result<Option<Vec<u8>>, Error> {
        if self.number(of.is_set)? == UNSET {
            return Ok(None);
        }
        let length = usize::try_from(self.number(of.length)?).unwrap_or(usize::MAX);
        self.read_first(of.value, length).map(Some)
    }

    /// Sets a value, or unsets it.
    ///
    /// # Errors
    /// `Unsupported` if it is longer than its range.
    pub(crate) fn set_bounded(&self, of: Bounded, value: Option<&[u8]>) -> Result<(), Error> {
        if let Some(value) = value {
            let length = i32::try_from(value.len()).map_err(|_| Error::Unsupported)?;
            if value.len() > of.value.bytes {
                return Err(Error::Unsupported);
            }
            self.set_number(of.length, length)?;
            self.map.write_at(of.value.offset, value)?;
        }
        self.set_number(of.is_set, if value.is_some() { SET } else { UNSET })
    }

    /// Returns the address of the reserved region; `None` if there is none.
    pub(crate) fn reserved(&self) -> Option<NonNull<u8>> {
        let offset = usize::try_from(metadata::RESERVED_AT).ok()?;
        (self.map.len() > offset).then(|| self.map.as_ptr().map_addr(|start| start.saturating_add(offset)))
    }
}
