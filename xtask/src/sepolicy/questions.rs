// SPDX-License-Identifier: Apache-2.0
//! Questions about the policy: permissions that it must give, and those that it must not.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use super::compiled::{Compiled, Rule};

/// One line of `expected*.txt`.
#[derive(Debug)]
pub(super) struct Question {
    answer: Answer,
    source: String,
    target: String,
    class: String,
    what: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// All of these permissions.
    Allow,
    /// None of these permissions.
    Deny,
    /// Exactly these ioctls.
    Ioctls,
    /// This type for new objects.
    Labels,
}

impl FromStr for Question {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let answer = match words.next() {
            Some("allow") => Answer::Allow,
            Some("deny") => Answer::Deny,
            Some("ioctls") => Answer::Ioctls,
            Some("labels") => Answer::Labels,
            _ => bail!("the line begins with neither allow, deny, ioctls nor labels: {line}"),
        };
        let mut word = || {
            words
                .next()
                .map(str::to_owned)
                .with_context(|| format!("the line has fewer than four words: {line}"))
        };
        let (source, target, class) = (word()?, word()?, word()?);
        let what: BTreeSet<String> = words.map(str::to_owned).collect();
        ensure!(!what.is_empty(), "the line names no permission, ioctl or type: {line}");
        Ok(Self { answer, source, target, class, what })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: Vec<&str> = self.what.iter().map(String::as_str).collect();
        write!(f, "{:?} {} {}:{} {}", self.answer, self.source, self.target, self.class, what.join(" "))
    }
}

impl Question {
    /// Checks that the policy has the expected rules.
    ///
    /// # Errors
    /// If a type does not exist, which would make the question meaningless, or the answer is a
    /// different one.
    pub(super) fn check(&self, policy: &Compiled) -> Result<()> {
        for kind in [&self.source, &self.target] {
            ensure!(policy.types.contains(kind), "the policy has no type {kind}");
        }
        let rules = match self.answer {
            Answer::Allow | Answer::Deny => &policy.allowed,
            Answer::Ioctls => &policy.ioctls,
            Answer::Labels => &policy.labels,
        };
        let granted: BTreeSet<&String> =
            rules.iter().filter(|rule| self.is_met_by(rule, policy)).flat_map(|rule| &rule.what).collect();
        let asked: BTreeSet<&String> = self.what.iter().collect();
        let is_right = match self.answer {
            Answer::Allow => asked.is_subset(&granted),
            Answer::Deny => asked.is_disjoint(&granted),
            Answer::Ioctls | Answer::Labels => asked == granted,
        };
        ensure!(is_right, "the rules of the policy have {granted:?}");
        Ok(())
    }

    fn is_met_by(&self, rule: &Rule, policy: &Compiled) -> bool {
        rule.class == self.class
            && policy.covers(&rule.source, &self.source)
            && policy.covers(&rule.target, &self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Compiled {
        let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
        let rule = |source: &str, what: &[&str]| Rule {
            source: source.to_owned(),
            target: "memory".to_owned(),
            class: "file".to_owned(),
            what: set(what),
        };
        Compiled {
            types: set(&["camera", "light", "memory"]),
            attributes: [("clients".to_owned(), set(&["camera"]))].into(),
            allowed: [rule("clients", &["map", "read"]), rule("camera", &["write"])].into(),
            ioctls: [rule("camera", &["0x1"])].into(),
            labels: [rule("camera", &["picture"])].into(),
        }
    }

    fn is_right(line: &str) -> bool {
        line.parse::<Question>().expect("a question").check(&policy()).is_ok()
    }

    #[test]
    fn answers_count_the_rules_of_a_type_and_of_its_attributes() {
        assert!(is_right("allow camera memory file map read write"));
        assert!(!is_right("allow camera memory file map open"));
        assert!(is_right("deny camera memory file open execute"));
        assert!(!is_right("deny camera memory file open read"));
        assert!(is_right("deny light memory file read"));
        assert!(!is_right("allow camera memory chr_file read"));
        assert!(is_right("ioctls camera memory file 0x1"));
        assert!(!is_right("ioctls camera memory file 0x1 0x2"));
        assert!(is_right("labels camera memory file picture"));
        assert!(!is_right("labels light memory file picture"));
    }

    #[test]
    fn questions_that_ask_nothing_are_refused() {
        assert!(!is_right("deny nobody memory file read"), "there is no such type");
        for bad in ["", "permit a b file read", "allow a b file", "allow a b"] {
            assert!(bad.parse::<Question>().is_err(), "{bad:?}");
        }
    }
}
