// SPDX-License-Identifier: Apache-2.0
//! Determines why the system does not permit this process to connect.

use nix::unistd::{Gid, Group, getegid, getgroups};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Mode bit of write permission for the group.
const GROUP_WRITES: u32 = 0o020;
/// Mode bit of search permission for the group.
const GROUP_SEARCHES: u32 = 0o010;

/// Reason why a process cannot connect to a socket, if the user can change it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// There is no file at the path.
    Missing,
    /// No service listens at the socket.
    NotListening,
    /// This process has no permission. The group has it; `None` if this process is already a
    /// member, or if it is root's group.
    Closed { group: Option<String> },
}

/// Returns the error of connecting to the socket at `path` with its cause in words. For a lack of
/// permission, it names who has it: the group of the socket, or of the directory that this process
/// may not search.
pub(super) fn explain(path: &Path, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket: {error}"),
        io::ErrorKind::ConnectionRefused => format!("no service listens: {error}"),
        io::ErrorKind::PermissionDenied => format!("{error}; {}", closed(path).0),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), text)
}

/// Tries to connect to the socket at `path` again. Returns the cause of a failure; `None` if a
/// service listens, or the user cannot change the cause.
pub(super) fn cause(path: &Path) -> Option<Cause> {
    match UnixStream::connect(path).err()?.kind() {
        io::ErrorKind::NotFound => Some(Cause::Missing),
        io::ErrorKind::ConnectionRefused => Some(Cause::NotListening),
        io::ErrorKind::PermissionDenied => Some(Cause::Closed { group: closed(path).1 }),
        _ => None,
    }
}

/// Returns who may use the socket at `path`, and the group that gives permission.
fn closed(path: &Path) -> (String, Option<String>) {
    if let Ok(socket) = fs::metadata(path) {
        let why = format!("the socket may be written to by {}", permitted(&socket, GROUP_WRITES));
        return (why, group_to_join(&socket, GROUP_WRITES));
    }
    // The first directory of the path that this process may not search.
    match path.ancestors().skip(1).find_map(|above| Some((above, fs::metadata(above).ok()?))) {
        Some((above, found)) => {
            let whom = permitted(&found, GROUP_SEARCHES);
            let why = format!("the directory {} may be searched by {whom}", above.display());
            (why, group_to_join(&found, GROUP_SEARCHES))
        }
        None => ("no directory on the way to it may be searched".to_owned(), None),
    }
}

/// Returns the group that has the permission of the mode bit `bit`; `None` if it is root's, or this
/// process is a member.
fn group_to_join(file: &Metadata, bit: u32) -> Option<String> {
    let gid = Gid::from_raw(file.gid());
    let is_member = gid == getegid() || getgroups().is_ok_and(|groups| groups.contains(&gid));
    let opens = file.permissions().mode() & bit != 0 && file.permissions().mode() & (bit >> 3) == 0;
    (opens && !is_member && gid.as_raw() != 0).then(|| group_name(file.gid()))
}

/// Returns who has the permission of the mode bit `bit` for a file.
fn permitted(file: &Metadata, bit: u32) -> String {
    let mode = file.permissions().mode() & 0o7777;
    let owner = file.uid();
    let group = group_name(file.gid());
    let whom = if mode & bit == 0 {
        format!("uid {owner} alone")
    } else if mode & (bit >> 3) == 0 {
        format!("uid {owner} and the members of group {group}")
    } else {
        "all users, by its mode".to_owned()
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
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_error_names_the_users_and_the_group_with_permission() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let said = |mode| {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("set");
            permitted(&file.as_file().metadata().expect("a file"), GROUP_WRITES)
        };
        let found = file.as_file().metadata().expect("a file");
        let (owner, group) = (found.uid(), group_name(found.gid()));
        assert_eq!(said(0o660), format!("uid {owner} and the members of group {group} (mode 0660)"));
        assert_eq!(said(0o600), format!("uid {owner} alone (mode 0600)"));
        assert_eq!(said(0o666), "all users, by its mode (mode 0666)");
        // This process is already in the group.
        assert_eq!(group_to_join(&file.as_file().metadata().expect("a file"), GROUP_WRITES), None);
    }

    #[test]
    fn each_cause_is_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let told = || {
            let error = UnixStream::connect(&path).expect_err("no service is there");
            let explained = explain(&path, &error);
            assert_eq!(explained.kind(), error.kind());
            explained.to_string()
        };
        assert_eq!(cause(&path), Some(Cause::Missing));
        assert!(told().starts_with("there is no socket: "));
        let listener = UnixListener::bind(&path).expect("bound");
        assert_eq!(cause(&path), None);
        drop(listener);
        assert_eq!(cause(&path), Some(Cause::NotListening));
        assert!(told().starts_with("no service listens: "));
    }
}
