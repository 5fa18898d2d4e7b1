// SPDX-License-Identifier: Apache-2.0
//! Looks up names of users and groups in the system's database of accounts.

use crate::config::{Account, AccountError};
use crate::sys::accounts;
use crate::units::Uid;

/// Looks an account up in this process.
///
/// # Errors
/// If there is no such account, or the database cannot be read.
pub(crate) fn look_up(account: &Account) -> Result<Vec<Uid>, AccountError> {
    let found = match account {
        Account::User(name) => accounts::user(name).map(|uid| uid.map(|uid| vec![uid])),
        Account::Group(name) => accounts::members(name),
    };
    match found {
        Ok(Some(uids)) => Ok(uids.into_iter().map(Uid).collect()),
        Ok(None) => Err(AccountError::Unknown(account.clone())),
        Err(errno) => Err(AccountError::Failed { account: account.clone(), reason: errno.to_string() }),
    }
}

/// Returns the name of a user with its uid for people; only the uid if it has no name.
pub(crate) fn shown(uid: Uid) -> String {
    accounts::name(uid.0).map_or_else(|| uid.to_string(), |name| format!("{name} ({uid})"))
}
