// SPDX-License-Identifier: Apache-2.0
//! Tests names of users and groups: their uids, and the errors for unknown ones.

use super::super::{Account, AccountError};
use super::{findings, load_with, own_text};
use crate::config::Loaded;
use crate::units::Uid;
use std::cell::Cell;

/// Answers for a machine with two users, a group of both, one of one, and one without members.
fn look_up(account: &Account) -> Result<Vec<Uid>, AccountError> {
    let uids: &[u32] = match account {
        Account::User(name) if name == "alice" => &[1000],
        Account::User(name) if name == "bob" => &[1001],
        Account::Group(name) if name == "video" => &[1000, 1001],
        Account::Group(name) if name == "render" => &[1001],
        Account::Group(name) if name == "empty" => &[],
        Account::User(name) if name == "ldap" => {
            let reason = "Input/output error".to_owned();
            return Err(AccountError::Failed { account: account.clone(), reason });
        }
        _ => return Err(AccountError::Unknown(account.clone())),
    };
    Ok(uids.iter().copied().map(Uid).collect())
}

fn named(heaps: &str) -> Loaded {
    load_with(&own_text(heaps), &look_up)
}

/// Returns the clients with the numbers of their uids.
fn clients(text: &str) -> (Vec<(String, Vec<u32>)>, Vec<String>) {
    let loaded = named(&format!("s {{ type = \"system\"; }}; clients {{ {text} }};"));
    let clients = loaded.config.policy.clients.iter();
    let uids = |uids: &[Uid]| uids.iter().map(|uid| uid.0).collect();
    let clients = clients.map(|client| (client.name.clone(), uids(&client.uids))).collect();
    (clients, findings(&loaded))
}

#[test]
fn users_groups_and_uids_of_a_node_are_one_list() {
    let text = "uids = <7 1000>; users = \"bob\", \"alice\"; groups = \"video\", \"render\";";
    let (found, said) = clients(&format!("c {{ {text} }};"));
    assert_eq!((found, said), (vec![("c".to_owned(), vec![7, 1000, 1001])], vec![]));
    let loaded =
        named("s { type = \"system\"; allow-users = \"bob\"; allow-groups = \"empty\"; allow-uids = <3>; };");
    assert_eq!(loaded.config.heaps[0].allow_uids, Some(vec![Uid(3), Uid(1001)]));
    assert_eq!(
        findings(&loaded),
        ["3:43: warning: /anion/s: allow-groups names group \"empty\", which has no members"]
    );
}

#[test]
fn a_heap_for_a_group_without_members_serves_no_user() {
    let loaded = named("s { type = \"system\"; allow-groups = \"empty\"; };");
    assert_eq!(loaded.config.heaps[0].allow_uids, Some(vec![]));
}

#[test]
fn a_name_that_cannot_be_resolved_is_an_error_of_its_node_alone() {
    for (body, expected) in [
        ("users = \"carol\";", "users: this machine has no user \"carol\""),
        ("groups = \"alice\";", "groups: this machine has no group \"alice\""),
        ("users = \"ldap\";", "users: user \"ldap\" cannot be looked up: Input/output error"),
        ("users = <1000>;", "users must be a string in double quotes"),
        ("uids = \"alice\";", "uids must be 32-bit cells, but it has 6 bytes"),
        ("users;", "users must be a string in double quotes"),
    ] {
        let (found, said) = clients(&format!("a {{ users = \"bob\"; }};\nbad {{ {body} }};"));
        assert_eq!(found, [("a".to_owned(), vec![1001])], "{body}");
        assert!(
            said.len() == 1 && said[0].ends_with(&format!("error: /anion/clients/bad: {expected}")),
            "{said:?}"
        );
    }
    let loaded = named("s { type = \"system\"; }; bad { type = \"system\"; allow-users = \"carol\"; };");
    assert_eq!(loaded.config.heaps.len(), 1);
    assert!(findings(&loaded)[0].ends_with("/anion/bad: allow-users: this machine has no user \"carol\""));
}

#[test]
fn a_client_for_a_group_omits_users_that_another_client_names() {
    // In either order.
    for text in [
        "all { groups = \"video\"; }; one { users = \"alice\"; };",
        "one { uids = <1000>; }; all { groups = \"video\"; };",
    ] {
        let (mut found, said) = clients(text);
        found.sort();
        assert_eq!(
            (found, said),
            (vec![("all".to_owned(), vec![1001]), ("one".to_owned(), vec![1000])], vec![])
        );
    }
    let (found, said) = clients("first { groups = \"render\"; }; second { groups = \"video\"; };");
    assert_eq!(found, [("first".to_owned(), vec![1001]), ("second".to_owned(), vec![1000])]);
    assert_eq!(said, [""; 0]);
    // A disabled client has no uids.
    let (found, _) =
        clients("all { groups = \"video\"; }; off { users = \"alice\"; status = \"disabled\"; };");
    assert_eq!(found, [("all".to_owned(), vec![1000, 1001])]);
    let (_, said) = clients("a { users = \"alice\"; }; b { uids = <1000>; };");
    assert!(said[0].ends_with("uid 1000 is in client b, but client a has it already"), "{said:?}");
}

#[test]
fn each_name_is_looked_up_once_and_not_more_than_a_thousand_are() {
    let asked = Cell::new(0);
    let count = |account: &Account| {
        asked.set(asked.get() + 1);
        look_up(account)
    };
    load_with(&own_text(&"s { type = \"system\"; allow-users = \"alice\", \"alice\"; };".repeat(2)), &count);
    assert_eq!(asked.get(), 1);
    let many: String = (0..1030).map(|number| format!("\"u{number}\",")).collect();
    let text = format!(
        "s {{ type = \"system\"; }}; clients {{ c {{ users = {}; }}; }};",
        many.trim_end_matches(',')
    );
    asked.set(0);
    let loaded = load_with(&own_text(&text), &count);
    assert_eq!(asked.get(), 1024);
    assert!(loaded.config.policy.clients.is_empty() && loaded.has_errors());
}
