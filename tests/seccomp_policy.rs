// SPDX-License-Identifier: Apache-2.0
//! Compares the seccomp policy with the observed calls of the service: the policy permits
//! everything that was observed, and has a reason for everything else. `cargo xtask observe` makes
//! the observation.

// The policy uses numbers of this architecture, and the observation is of x86-64.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../src/daemon/seccomp/policy.rs"]
mod policy;
#[path = "../xtask/src/observe/review.rs"]
mod review;

use policy::Policy;
use review::{Element, Review, elements, explained, parse_observed};
use std::collections::BTreeSet;

const POLICY: &str = include_str!("../seccomp/aniond-x86_64.policy");
const OBSERVED: &str = include_str!("../seccomp/observed-x86_64.txt");
const ARM64: &str = include_str!("../seccomp/aniond-arm64.policy");
const ANDROID: &str = include_str!("../seccomp/android.policy");

#[test]
fn every_observed_call_is_allowed_and_every_other_rule_has_a_reason() {
    let observed = parse_observed(OBSERVED).expect("what xtask writes");
    assert!(observed.len() > 60, "only {} forms of calls were observed", observed.len());
    let faults = Review::new(POLICY, &observed).expect("sound").faults(&observed);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_host_and_guests_with_either_kind_of_devices_were_observed() {
    let observed = parse_observed(OBSERVED).expect("what xtask writes");
    for place in ["host", "debian-6.12", "ion"] {
        let count = observed.values().filter(|places| places.contains(place)).count();
        assert!(count > 40, "{count} forms of calls were observed in {place}");
    }
}

/// Returns the elements of `these` that neither `those` nor the comments with this keyword have,
/// and elements of such comments that are no difference.
fn unexplained(these: &str, those: &str, keyword: &str) -> Vec<Element> {
    let of = |text| elements(&Policy::parse(text).expect("sound"));
    let different: BTreeSet<_> = of(these).difference(&of(those)).cloned().collect();
    let reasons = explained(ANDROID, keyword).expect("sound");
    let is_missing =
        |element: &&Element| !reasons.contains(element) && !reasons.contains(&element.of_any_value());
    let missing = different.iter().filter(is_missing);
    missing.chain(reasons.difference(&different)).cloned().collect()
}

#[test]
fn the_policy_for_android_is_that_of_arm64_with_a_reason_for_each_difference() {
    assert_eq!(unexplained(ANDROID, ARM64, "added"), []);
    assert_eq!(unexplained(ARM64, ANDROID, "left out"), []);
    assert!(unexplained(ANDROID, ARM64, "left out").len() > 10, "wrong reasons are found");
}
