// SPDX-License-Identifier: Apache-2.0
//! Names of users.

use nix::unistd::{Uid, User};

/// Returns the name that this machine gives to a uid; the number where it has none.
pub(crate) fn name(uid: u32) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_without_a_name_is_shown_as_its_number() {
        assert_eq!(name(0), "root");
        assert_eq!(name(4_000_000_123), "4000000123");
    }
}
