// SPDX-License-Identifier: Apache-2.0
//! Decodes and encodes metadata as a client does.

use anyhow::{Context, Result, ensure};

/// The name of the standard types.
pub(super) const STANDARD: &str = "android.hardware.graphics.common.StandardMetadataType";

/// The bytes of a value that are not yet read.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins to read a value of a type, after its header.
    ///
    /// # Errors
    /// If the header is not that of the type.
    pub(super) fn new(value: &'a [u8], number: i64) -> Result<Self> {
        let mut reader = Self(value);
        let (name, found) = (reader.text()?, reader.long()?);
        ensure!(name == STANDARD && found == number, "the header has {name}, {found} for type {number}");
        Ok(reader)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().context("the value is cut off")?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn word(&mut self) -> Result<i32> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// Reads a number of elements.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count = self.long()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= 4096)
            .with_context(|| format!("{count} elements"))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        let count = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(count).context("the value is cut off")?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    pub(super) fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.bytes()?)?)
    }

    /// Reads a value of an enumeration that vendors may extend; the name without its package.
    pub(super) fn extendable(&mut self) -> Result<(String, i64)> {
        let name = self.text()?;
        let short = name.strip_prefix("android.hardware.graphics.common.");
        Ok((short.with_context(|| format!("{name} is of a vendor"))?.to_owned(), self.long()?))
    }

    /// Checks that all bytes were read.
    pub(super) fn end(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{} bytes follow the value", self.0.len());
        Ok(())
    }
}

/// Returns a value with the header of its type.
pub(super) fn encode(number: i64, payload: &[u8]) -> Vec<u8> {
    let length = i64::try_from(STANDARD.len()).unwrap_or_default();
    let mut value = length.to_le_bytes().to_vec();
    value.extend(STANDARD.as_bytes());
    value.extend(number.to_le_bytes());
    value.extend(payload);
    value
}

/// A component of a plane: its type, bit offset and bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) kind: i64,
    pub(super) offset: i64,
    pub(super) bits: i64,
}

/// `PlaneLayout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) components: Vec<Component>,
    pub(super) offset: i64,
    pub(super) increment: i64,
    pub(super) stride: i64,
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) bytes: i64,
    pub(super) horizontal: i64,
    pub(super) vertical: i64,
}

/// Reads the planes of PLANE_LAYOUTS.
///
/// # Errors
/// If the value is too short, or the type of a component is not the platform's.
pub(super) fn planes(reader: &mut Reader<'_>) -> Result<Vec<Plane>> {
    (0..reader.count()?).map(|_| plane(reader)).collect()
}

fn plane(reader: &mut Reader<'_>) -> Result<Plane> {
    let components = (0..reader.count()?).map(|_| component(reader)).collect::<Result<_>>()?;
    let mut long = || reader.long();
    Ok(Plane {
        components,
        offset: long()?,
        increment: long()?,
        stride: long()?,
        width: long()?,
        height: long()?,
        bytes: long()?,
        horizontal: long()?,
        vertical: long()?,
    })
}

fn component(reader: &mut Reader<'_>) -> Result<Component> {
    let (name, kind) = reader.extendable()?;
    ensure!(name == "PlaneLayoutComponentType", "a component is a {name}");
    Ok(Component { kind, offset: reader.long()?, bits: reader.long()? })
}
