// SPDX-License-Identifier: Apache-2.0
//! The buffers that this process has imported, by the addresses of their handles.

use crate::buffer::Buffer;
use crate::error::Error;
use crate::sys::Native;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An imported buffer, and its handle for C.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) native: Native,
    pub(crate) buffer: Buffer,
}

/// The list. A buffer that a call uses lives until the call ends, even if another thread frees it.
static IMPORTED: Mutex<BTreeMap<usize, Arc<Imported>>> = Mutex::new(BTreeMap::new());

fn imported() -> MutexGuard<'static, BTreeMap<usize, Arc<Imported>>> {
    IMPORTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a buffer, and returns the address of its handle, which identifies it.
pub(crate) fn insert(buffer: Buffer) -> *const Native {
    let made = Arc::new(Imported { native: Native::of(&buffer), buffer });
    let address = &raw const made.native;
    imported().insert(address.addr(), made);
    address
}

/// Returns the buffer with the handle at this address.
///
/// # Errors
/// `BadBuffer` if no imported buffer has this address.
pub(crate) fn find(address: usize) -> Result<Arc<Imported>, Error> {
    imported().get(&address).cloned().ok_or(Error::BadBuffer)
}

/// Removes the buffer with the handle at this address. Its descriptors and mappings are released
/// when the last call that uses it ends.
///
/// # Errors
/// `BadBuffer` if no imported buffer has this address.
pub(crate) fn remove(address: usize) -> Result<Arc<Imported>, Error> {
    imported().remove(&address).ok_or(Error::BadBuffer)
}

/// Returns all buffers, in no particular order.
pub(crate) fn all() -> Vec<Arc<Imported>> {
    imported().values().cloned().collect()
}
