// SPDX-License-Identifier: Apache-2.0
//! Compares the manual page anion-heaps(5) with the keys that are read.

use super::super::{graphics, heaps, policy};
use super::{findings, load};

const PAGE: &str = include_str!("../../../docs/man/anion-heaps.5");

/// Returns the entries of the page's section after this mark, in order.
fn entries(mark: &str) -> Vec<&'static str> {
    let start = PAGE.find(mark).expect("the mark");
    let section = PAGE[start..].split("\n.SH").next().expect("a section");
    let lines: Vec<&str> = section.lines().collect();
    let after_tag = lines.windows(2).filter(|pair| pair[0] == ".TP");
    after_tag.map(|pair| pair[1].strip_prefix(".B ").expect("a key in bold")).collect()
}

#[test]
fn the_manual_page_has_the_keys_that_are_read() {
    assert_eq!(entries(".\\\" keys: heap"), heaps::KEYS);
    assert_eq!(entries(".\\\" keys: clients"), policy::CLIENT_KEYS);
    assert_eq!(entries(".\\\" keys: graphics"), graphics::KEYS);
    assert!(policy::QUOTA_KEYS.iter().all(|key| policy::CLIENT_KEYS.contains(key)));
}

#[test]
fn the_example_of_the_manual_page_is_a_good_configuration() {
    let text = PAGE.split("\n.SH EXAMPLES\n.nf\n").nth(1).and_then(|rest| rest.split("\n.fi").next());
    let loaded = load(text.expect("an example"));
    assert_eq!(findings(&loaded), [""; 0]);
    assert_eq!(loaded.config.heaps.len(), 2);
}
