// SPDX-License-Identifier: Apache-2.0
//! Sets metadata, for all processes that have the buffer.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::standard::{self, Standard};
use anion_handle::metadata::{BLEND_MODE, CTA861_3, DATASPACE, SMPTE2086, SMPTE2094_10, SMPTE2094_40};

/// Sets metadata of a buffer to an encoded value. An empty value unsets metadata that may be unset.
///
/// # Errors
/// `BadValue` for metadata that the request has fixed; `Unsupported` for all others that cannot be
/// set, for a value that is not encoded as its type, and for one that is too long.
pub(crate) fn set(buffer: &Buffer, standard: Standard, value: &[u8]) -> Result<(), Error> {
    if !standard.is_settable() {
        return Err(if standard.is_requested() { Error::BadValue } else { Error::Unsupported });
    }
    let payload = if value.is_empty() { None } else { Some(payload(standard, value)?) };
    match standard {
        Standard::Dataspace => buffer.page.set_number(DATASPACE, number(payload)?),
        Standard::BlendMode => buffer.page.set_number(BLEND_MODE, number(payload)?),
        Standard::Smpte2086 => buffer.page.set_optional(SMPTE2086, exactly(payload, SMPTE2086.value.bytes)?),
        Standard::Cta861_3 => buffer.page.set_optional(CTA861_3, exactly(payload, CTA861_3.value.bytes)?),
        Standard::Smpte2094_40 => buffer.page.set_bounded(SMPTE2094_40, counted(payload)?),
        Standard::Smpte2094_10 => buffer.page.set_bounded(SMPTE2094_10, counted(payload)?),
        _ => Err(Error::Unsupported),
    }
}

/// Returns the value after the header, which must be that of the type.
fn payload(standard: Standard, value: &[u8]) -> Result<&[u8], Error> {
    let (name, rest) = length_and_rest(value)?;
    let (name, rest) = rest.split_at_checked(name).ok_or(Error::Unsupported)?;
    let (number, payload) = rest.split_first_chunk().ok_or(Error::Unsupported)?;
    let is_right = name == standard::NAME.as_bytes() && i64::from_le_bytes(*number) == standard.number();
    if is_right { Ok(payload) } else { Err(Error::Unsupported) }
}

fn length_and_rest(bytes: &[u8]) -> Result<(usize, &[u8]), Error> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Error::Unsupported)?;
    let length = usize::try_from(i64::from_le_bytes(*length)).map_err(|_| Error::Unsupported)?;
    Ok((length, rest))
}

fn number(payload: Option<&[u8]>) -> Result<i32, Error> {
    let bytes = payload.and_then(|payload| payload.try_into().ok()).ok_or(Error::Unsupported)?;
    Ok(i32::from_le_bytes(bytes))
}

/// Returns the value if it has exactly `bytes` bytes.
fn exactly(payload: Option<&[u8]>, bytes: usize) -> Result<Option<&[u8]>, Error> {
    match payload {
        Some(payload) if payload.len() != bytes => Err(Error::Unsupported),
        other => Ok(other),
    }
}

/// Returns the bytes after their length.
fn counted(payload: Option<&[u8]>) -> Result<Option<&[u8]>, Error> {
    let Some(payload) = payload else { return Ok(None) };
    let (length, bytes) = length_and_rest(payload)?;
    if length == bytes.len() { Ok(Some(bytes)) } else { Err(Error::Unsupported) }
}
