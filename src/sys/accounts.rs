// SPDX-License-Identifier: Apache-2.0
//! Reads users and groups from the system's database of accounts.

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User};
use std::collections::BTreeSet;

/// Returns the uid of the user with this name; `None` if there is no such user.
///
/// # Errors
/// As getpwnam(3).
pub fn user(name: &str) -> Result<Option<u32>, Errno> {
    Ok(known(User::from_name(name))?.map(|user| user.uid.as_raw()))
}

/// Returns the name of the user with this uid; `None` if it is unknown.
pub fn name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// Returns the uids of all users whose primary group, or one of whose supplementary groups, has
/// this name, sorted; `None` if there is no such group. Omits members without an account, and users
/// that have it as primary group if their directory does not list its users (enumeration).
///
/// # Errors
/// As getgrnam(3) and getpwnam(3).
pub fn members(name: &str) -> Result<Option<Vec<u32>>, Errno> {
    let Some(group) = known(Group::from_name(name))? else { return Ok(None) };
    let mut members = users_of(group.gid.as_raw());
    for member in &group.mem {
        members.extend(user(member)?);
    }
    Ok(Some(members.into_iter().collect()))
}

/// Returns the answer, with `None` for an unknown name, which some databases report as one of these
/// errors (getpwnam(3)).
fn known<T>(answer: nix::Result<Option<T>>) -> Result<Option<T>, Errno> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        answer => answer,
    }
}

/// Returns no uids: each of Android's groups lists its user, and the users of applications are too
/// many to list.
#[cfg(any(soong, target_os = "android"))]
fn users_of(_gid: u32) -> BTreeSet<u32> {
    BTreeSet::new()
}

/// Returns the uids of the users with this primary group.
#[cfg(not(any(soong, target_os = "android")))]
fn users_of(gid: u32) -> BTreeSet<u32> {
    use std::sync::{Mutex, PoisonError};

    /// Held from setpwent to endpwent: the C library has one position in the list for the whole
    /// process.
    static LISTING: Mutex<()> = Mutex::new(());
    let _listing = LISTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = BTreeSet::new();
    // SAFETY: setpwent takes no argument. It changes a state of the C library that only getpwent
    // and endpwent use, no other code of the process calls any of the three, and the lock is held
    // until endpwent returns.
    unsafe { libc::setpwent() };
    loop {
        // SAFETY: as setpwent.
        let entry = unsafe { libc::getpwent() };
        // SAFETY: getpwent returns null, or a passwd that is valid until the next of these calls;
        // two numbers are copied out of it before that.
        let Some(entry) = (unsafe { entry.as_ref() }) else { break };
        if entry.pw_gid == gid {
            found.insert(entry.pw_uid);
        }
    }
    // SAFETY: as setpwent.
    unsafe { libc::endpwent() };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_others_are_not() {
        assert_eq!(user("root"), Ok(Some(0)));
        assert_eq!(name(0).as_deref(), Some("root"));
        assert_eq!((user("no-such-user"), members("no-such-group")), (Ok(None), Ok(None)));
        assert_eq!((user("nul\0"), name(4_000_000_123)), (Ok(None), None));
    }

    #[test]
    fn members_are_those_of_the_primary_group_too() {
        let members = members("root").expect("read").expect("a group of every machine");
        assert!(members.contains(&0), "{members:?}");
        assert!(members.is_sorted(), "{members:?}");
    }
}
