// SPDX-License-Identifier: Apache-2.0
//! Selects the one command that helps a client that finds no service.

use super::denial::{Cause, cause};
use crate::endpoint::{machine_socket, own_uid, runtime_directory};
use nix::unistd::{Group, Uid, User, getgroups};
use std::env;
use std::path::{Path, PathBuf};

/// Directories of systemd units.
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The unit that listens for the machine's service.
const UNIT: &str = "anion.socket";

/// Facts that the command depends on, in addition to the causes.
struct Surroundings {
    /// The name of this user, if it has one.
    user: Option<String>,
    is_root: bool,
    /// Whether systemd runs and has the service's unit.
    has_unit: bool,
    has_runtime_directory: bool,
    home: Option<PathBuf>,
}

impl Surroundings {
    fn find() -> Self {
        let uid = own_uid();
        let user = uid.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
        let runs = Path::new("/run/systemd/system").is_dir();
        Self {
            is_root: uid == Some(0),
            has_unit: runs && UNIT_FOLDERS.iter().any(|folder| Path::new(folder).join(UNIT).exists()),
            has_runtime_directory: runtime_directory().is_some(),
            home: env::home_dir(),
            user: user.map(|user| user.name),
        }
    }
}

/// Returns the command that helps if no service was found at these sockets; `None` if neither a
/// missing service nor a missing permission is the cause, such as a service that refuses the
/// connection.
pub(crate) fn remedy(sockets: &[PathBuf]) -> Option<String> {
    let causes: Option<Vec<Cause>> = sockets.iter().map(|path| cause(path)).collect();
    let places: Vec<(&Path, Cause)> = sockets.iter().map(PathBuf::as_path).zip(causes?).collect();
    (!places.is_empty()).then(|| command(&places, &Surroundings::find()))
}

/// Returns the command that helps.
fn command(places: &[(&Path, Cause)], here: &Surroundings) -> String {
    let group = places.iter().find_map(|(_, cause)| match cause {
        Cause::Closed { group } => group.as_deref(),
        _ => None,
    });
    if let (Some(group), Some(user)) = (group, &here.user) {
        return if is_late_member(group, user) {
            format!("user {user} is in the group, but this session began before: newgrp {group}")
        } else {
            format!("to join the group, as root, and log in again: usermod -aG {group} {user}")
        };
    }
    let is_idle = |cause: &Cause| matches!(cause, Cause::Missing | Cause::NotListening);
    if here.has_unit && places.iter().any(|(path, cause)| *path == machine_socket() && is_idle(cause)) {
        return format!("to start the service, as root: systemctl start {UNIT}");
    }
    let place = match (places, &here.home) {
        // The socket that the user named.
        ([(path, cause)], _) if is_idle(cause) => Some(path),
        (_, Some(home)) if !here.is_root && !here.has_runtime_directory => {
            let path = home.join("anion.sock");
            return format!(
                "to start a service for a trial: aniond --socket {0}; name it to clients with ANION_SOCKET={0}",
                path.display()
            );
        }
        _ => None,
    };
    let option = place.map_or_else(String::new, |path| format!(" --socket {}", path.display()));
    format!("to start a service for a trial: aniond{option}")
}

/// Returns whether the user is in the group in the account database, but this process is not.
fn is_late_member(group: &str, user: &str) -> bool {
    let Ok(Some(found)) = Group::from_name(group) else { return false };
    let has = getgroups().is_ok_and(|groups| groups.contains(&found.gid));
    found.mem.iter().any(|member| member == user) && !has
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "/run/user/1/anion/allocator.sock";
    const MACHINE: &str = "/run/anion/allocator.sock";

    fn alice() -> Surroundings {
        Surroundings {
            user: Some("alice".to_owned()),
            is_root: false,
            has_unit: true,
            has_runtime_directory: true,
            home: Some("/home/alice".into()),
        }
    }

    fn said<const N: usize>(places: [(&str, Cause); N], here: &Surroundings) -> String {
        command(&places.map(|(path, cause)| (Path::new(path), cause)), here)
    }

    #[test]
    fn the_group_to_join_comes_first() {
        let closed = Cause::Closed { group: Some("anion-clients".to_owned()) };
        assert_eq!(
            said([(OWN, Cause::Missing), (MACHINE, closed)], &alice()),
            "to join the group, as root, and log in again: usermod -aG anion-clients alice"
        );
    }

    #[test]
    fn a_unit_that_is_installed_is_started() {
        for cause in [Cause::Missing, Cause::NotListening] {
            let answer = said([(OWN, Cause::Missing), (MACHINE, cause)], &alice());
            assert_eq!(answer, "to start the service, as root: systemctl start anion.socket");
        }
        let without = Surroundings { has_unit: false, ..alice() };
        let trial = "to start a service for a trial: aniond";
        assert_eq!(said([(OWN, Cause::Missing), (MACHINE, Cause::Missing)], &without), trial);
        // Only its owner may use it: starting it would change nothing.
        let closed = Cause::Closed { group: None };
        assert_eq!(said([(OWN, Cause::Missing), (MACHINE, closed)], &alice()), trial);
    }

    #[test]
    fn a_trial_serves_where_the_client_looks() {
        let named = said([("/tmp/a", Cause::Missing)], &alice());
        assert_eq!(named, "to start a service for a trial: aniond --socket /tmp/a");
        let bare = Surroundings { has_unit: false, has_runtime_directory: false, ..alice() };
        let both = || [(OWN, Cause::Missing), (MACHINE, Cause::Missing)];
        assert_eq!(
            said(both(), &bare),
            "to start a service for a trial: aniond --socket /home/alice/anion.sock; \
             name it to clients with ANION_SOCKET=/home/alice/anion.sock"
        );
        let root = Surroundings { is_root: true, ..bare };
        assert_eq!(said(both(), &root), "to start a service for a trial: aniond");
    }

    #[test]
    fn a_service_that_listens_needs_no_remedy() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        assert_eq!(remedy(&[path, "/no/such/socket".into()]), None);
        assert_eq!(remedy(&[]), None);
    }
}
