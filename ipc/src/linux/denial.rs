// SPDX-License-Identifier: Apache-2.0
//! Why the system does not let this process connect.

use nix::unistd::{Gid, Group};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Bit of a mode: its group may write.
const GROUP_WRITES: u32 = 0o020;
/// Bit of a mode: its group may look for names.
const GROUP_SEARCHES: u32 = 0o010;

/// Returns the error of connecting to the socket at `path`. If it is a lack of permission, it says
/// who has it: the group of the socket, or of the directory that may not be searched.
pub(super) fn explain(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let why = match fs::metadata(path) {
        Ok(socket) => {
            format!("the socket may be written to by {}", permitted(&socket, GROUP_WRITES))
        }
        Err(_) => closed_directory(path),
    };
    io::Error::new(error.kind(), format!("{error}; {why}"))
}

/// Returns the words for the directory on the way to `path` that this process may not search.
fn closed_directory(path: &Path) -> String {
    let seen = path.ancestors().skip(1).find_map(|above| Some((above, fs::metadata(above).ok()?)));
    match seen {
        Some((above, found)) => {
            format!(
                "the directory {} may be searched by {}",
                above.display(),
                permitted(&found, GROUP_SEARCHES)
            )
        }
        None => "no directory on the way to it may be searched".to_owned(),
    }
}

/// Returns whom the mode of a file permits what its group bit `bit` stands for.
fn permitted(file: &Metadata, bit: u32) -> String {
    let mode = file.permissions().mode() & 0o7777;
    let owner = file.uid();
    let group = group_name(file.gid());
    let whom = if mode & bit == 0 {
        format!("uid {owner} alone")
    } else if mode & (bit >> 3) == 0 {
        format!("uid {owner} and the members of group {group}")
    } else {
        "all, as far as its mode tells".to_owned()
    };
    format!("{whom} (mode {mode:04o})")
}

/// Returns the group's name, or its number if it has none.
fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| gid.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn what_is_permitted_to_a_group_is_said_with_its_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let said = |mode| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("set");
            permitted(&file.as_file().metadata().expect("a file"), GROUP_WRITES)
        };
        let found = file.as_file().metadata().expect("a file");
        let (owner, group) = (found.uid(), group_name(found.gid()));
        assert_eq!(said(0o660), format!("uid {owner} and the members of group {group} (mode 0660)"));
        assert_eq!(said(0o600), format!("uid {owner} alone (mode 0600)"));
        assert_eq!(said(0o666), "all, as far as its mode tells (mode 0666)");
    }

    #[test]
    fn other_errors_are_left_as_they_are() {
        let error = explain(Path::new("/no/such"), io::Error::from_raw_os_error(2));
        assert_eq!(error.raw_os_error(), Some(2));
    }
}
