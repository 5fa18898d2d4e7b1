// SPDX-License-Identifier: Apache-2.0
//! Loads the mapper as the platform does.

use super::abi::{FUNCTIONS, Table};
use anyhow::{Context, Result, bail, ensure};
use nix::libc::{RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym};
use std::ffi::{CStr, CString, c_void};
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;

/// A mapper's shared library. It stays loaded until the process ends.
///
/// Invariant: `handle` comes from dlopen(3), and is never closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    handle: *mut c_void,
}

// SAFETY: the loader's functions may be called from any thread, and no other code uses the handle.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The functions of a mapper.
#[derive(Clone, Copy)]
pub(crate) struct Mapper {
    pub(super) table: &'static Table,
}

/// `AIMapper_loadIMapper`.
type Load = unsafe extern "C" fn(*mut *const Table) -> i32;

impl Library {
    /// Loads a library with local symbols.
    ///
    /// # Errors
    /// The error of dlopen(3).
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the name is NUL-terminated. The code that runs on loading is the mapper under
        // test.
        let handle = unsafe { dlopen(name.as_ptr(), RTLD_LOCAL | RTLD_NOW) };
        if handle.is_null() {
            bail!("cannot load {}: {}", path.display(), error());
        }
        Ok(Self { handle })
    }

    fn symbol(self, name: &CStr) -> Result<*mut c_void> {
        // SAFETY: the handle is an open library's (invariant), and the name is NUL-terminated.
        let symbol = unsafe { dlsym(self.handle, name.as_ptr()) };
        ensure!(!symbol.is_null(), "the mapper has no {}: {}", name.to_string_lossy(), error());
        Ok(symbol)
    }

    /// Returns the version number of the mapper.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) fn version(self) -> Result<i32> {
        let symbol = self.symbol(c"ANDROID_HAL_MAPPER_VERSION")?.cast::<i32>();
        // SAFETY: a symbol of this name is an int32_t in every mapper, which lives as long as the
        // library.
        Ok(unsafe { symbol.read() })
    }

    fn table(self) -> Result<*const Table> {
        let symbol = self.symbol(c"AIMapper_loadIMapper")?;
        // SAFETY: a symbol of this name is a function of this type in every mapper.
        let load = unsafe { std::mem::transmute::<*mut c_void, Load>(symbol) };
        let mut table = null();
        // SAFETY: the function writes one pointer to the place, which is on this stack.
        let code = unsafe { load(&raw mut table) };
        ensure!(code == 0, "AIMapper_loadIMapper returns {code}");
        ensure!(!table.is_null(), "AIMapper_loadIMapper returns no mapper");
        Ok(table)
    }

    /// Returns the version and the address of each function, before any is called.
    ///
    /// # Errors
    /// If there is no table.
    pub(crate) fn functions(self) -> Result<(u32, [usize; FUNCTIONS])> {
        let table = self.table()?;
        // SAFETY: the mapper's table begins with its version, and lives as long as the library.
        let version = unsafe { table.cast::<u32>().read() };
        let functions = table.wrapping_byte_add(offset_of!(Table, v5)).cast::<[usize; FUNCTIONS]>();
        // SAFETY: the table of every version has as many pointers there.
        let functions = unsafe { functions.read() };
        Ok((version, functions))
    }

    /// Returns the mapper.
    ///
    /// # Errors
    /// If it is not of version 5, or lacks a function.
    pub(crate) fn load(self) -> Result<Mapper> {
        let (version, functions) = self.functions()?;
        ensure!(version == 5, "version of the mapper is {version}, but it must be 5");
        let missing = functions.iter().position(|function| *function == 0);
        ensure!(missing.is_none(), "function {missing:?} of the mapper is null");
        // SAFETY: the table is of version 5, none of its functions is null (checked), it does not
        // change, and lives as long as the library, which is never closed (invariant).
        let table = unsafe { self.table()?.as_ref() };
        Ok(Mapper { table: table.context("no table")? })
    }
}

impl Mapper {
    /// Returns the address of its table, which is the same for every load.
    pub(crate) fn address(self) -> usize {
        (&raw const *self.table).addr()
    }
}

/// Returns the last error of the loader.
fn error() -> String {
    // SAFETY: it has no arguments, and returns null or a text that lives until the next call of
    // this thread.
    let text = unsafe { dlerror() };
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: it is not null, so it is such a text.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
