// SPDX-License-Identifier: Apache-2.0
//! Finds the preload library, and adds it to the loader's list.

use super::absolute;
use crate::failure::Failure;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The library's name.
const LIBRARY: &str = "libanion-preload.so";
/// The loader's environment variable.
const VARIABLE: &str = "LD_PRELOAD";

/// Returns the path of the library: `named`, or else the library beside this program or in
/// `../lib`.
///
/// # Errors
/// [`Failure::Local`] with the name of every place if none contains it.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let own = env::current_exe()
        .map_err(|error| Failure::local("cannot determine the path of anionctl", &error))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let places = match named {
        Some(path) => vec![absolute(path)?],
        None => vec![beside.join(LIBRARY), beside.join("../lib").join(LIBRARY)],
    };
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        let text = format!(
            "{LIBRARY} is not at {}; `cargo xtask install-c` installs it, and --preload sets another path",
            places.join(" or ")
        );
        Failure::Local(text)
    })
}

/// Returns the loader's list with the library before the present entries.
///
/// # Errors
/// [`Failure::Local`] if the path of the library has a separator of the list.
pub(super) fn list(library: &Path) -> Result<OsString, Failure> {
    // The loader's separators.
    if library.as_os_str().as_bytes().iter().any(|byte| b" \t\n:".contains(byte)) {
        let text = format!("{}: LD_PRELOAD cannot name a path with blanks or colons", library.display());
        return Err(Failure::Local(text));
    }
    let mut list = library.as_os_str().to_owned();
    if let Some(others) = env::var_os(VARIABLE).filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    Ok(list)
}
