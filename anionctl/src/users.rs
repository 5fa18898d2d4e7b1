// SPDX-License-Identifier: Apache-2.0
//! Converts between names of users and uids.

use nix::errno::Errno;
use nix::unistd::{Uid, User};

/// The cause why a text is no user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("this machine has no user {0:?}, and it is no uid, 0 to 4294967295")]
    Unknown(String),
    #[error("cannot look up user {name:?}: {errno}")]
    Failed { name: String, errno: Errno },
}

/// Returns the name of a uid on this machine; the number if it has none.
pub(crate) fn name(uid: u32) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Returns the uid of a user's name or number.
///
/// # Errors
/// If it is neither, or the database of accounts cannot be read.
pub(crate) fn uid(text: &str) -> Result<u32, UserError> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH) => Err(UserError::Unknown(text.to_owned())),
        Err(errno) => Err(UserError::Failed { name: text.to_owned(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_without_a_name_is_shown_as_its_number() {
        assert_eq!(name(0), "root");
        assert_eq!(name(4_000_000_123), "4000000123");
    }

    #[test]
    fn a_user_is_a_number_or_a_name() {
        assert_eq!((uid("root"), uid("4000000123")), (Ok(0), Ok(4_000_000_123)));
        for bad in ["no-such-user", "", "-1", "4294967296"] {
            assert_eq!(uid(bad), Err(UserError::Unknown(bad.to_owned())));
        }
    }
}
