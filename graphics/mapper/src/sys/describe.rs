// SPDX-License-Identifier: Apache-2.0
//! Converts types of metadata between C and Rust.

use super::abi::{MetadataType, MetadataTypeDescription, OnValue, STANDARD};
use crate::buffer::Buffer;
use crate::encode::encode;
use crate::error::Error;
use crate::standard::{ALL, Standard};
use std::ffi::{CStr, c_void};
use std::ptr::null;

/// All types. Android defines them, so they need no description.
pub(super) static LIST: [MetadataTypeDescription; ALL.len()] = {
    const FIRST: MetadataTypeDescription = description(ALL[0]);
    let mut list = [FIRST; ALL.len()];
    let mut at = 0;
    while at < ALL.len() {
        list[at] = description(ALL[at]);
        at += 1;
    }
    list
};

const fn metadata_type(standard: Standard) -> MetadataType {
    MetadataType { name: STANDARD.as_ptr(), value: standard.number() }
}

const fn description(standard: Standard) -> MetadataTypeDescription {
    MetadataTypeDescription {
        metadata_type: metadata_type(standard),
        description: null(),
        is_gettable: true,
        is_settable: standard.is_settable(),
        reserved: [0; 32],
    }
}

/// Returns the number of a client's type.
///
/// # Errors
/// `Unsupported` if the name is not that of the standard types.
pub(super) fn number_of(metadata_type: MetadataType) -> Result<i64, Error> {
    if metadata_type.name.is_null() {
        return Err(Error::Unsupported);
    }
    // SAFETY: the caller's name is a NUL-terminated text during the call (module); it is not null.
    let name = unsafe { CStr::from_ptr(metadata_type.name) };
    if name == STANDARD { Ok(metadata_type.value) } else { Err(Error::Unsupported) }
}

/// Calls a client's function with every value that is set.
///
/// # Errors
/// As [`encode`].
pub(super) fn dump(buffer: &Buffer, on_value: OnValue, context: *mut c_void) -> Result<(), Error> {
    for standard in ALL {
        let value = encode(buffer, standard)?;
        if !value.is_empty() {
            // SAFETY: the caller's function accepts the caller's context, a type, and this number
            // of bytes during the call (module).
            unsafe { on_value(context, metadata_type(standard), value.as_ptr().cast(), value.len()) };
        }
    }
    Ok(())
}
