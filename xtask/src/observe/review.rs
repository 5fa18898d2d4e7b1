// SPDX-License-Identifier: Apache-2.0
//! Compares a policy of system calls with an observation of the service. The policy must permit all
//! observed calls, and have a reason for every other call that it permits.
//!
//! Such reasons are comments in the policy:
//!
//! ```text
//! # not observed: brk, fcntl F_SETFD: the C library calls them when memory is short
//! # not always observed: sched_yield: depends on the contention of two threads
//! ```
//!
//! A call means the call with all its values; a call with a value means only this value. A reason
//! of the first kind for an observed call is an error, like a missing reason. The second kind is
//! for calls that depend on timing or on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::policy::{Alternative, Condition, Policy, PolicyError, RuleError, Test, constant};

/// Reason why an observation, a policy, or a reason in a policy cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("line {line}: {fault}")]
    Line { line: usize, fault: LineError },
}

/// The fault in a line of an observation, or of a reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("the line does not have the form CALL: PLACE")]
    NoPlace,
    #[error("the line names no system call")]
    NoCall,
    #[error("{0:?} is not of the form argN=0xVALUE")]
    Argument(String),
    #[error("the reason is missing")]
    NoReason,
    /// The value after a call in a reason.
    #[error(transparent)]
    Value(#[from] RuleError),
}

/// A system call with the values of the arguments that the policy restricts, in their lower 32
/// bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Form {
    pub(crate) call: String,
    /// By argument number, from 0.
    pub(crate) arguments: BTreeMap<u8, u32>,
}

/// Every observed form, with the places of its observations.
pub(crate) type Observed = BTreeMap<Form, BTreeSet<String>>;

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        self.arguments.iter().try_for_each(|(number, value)| write!(f, " arg{number}={value:#x}"))
    }
}

impl std::str::FromStr for Form {
    type Err = LineError;

    /// Parses the output of `Display`.
    fn from_str(text: &str) -> Result<Self, LineError> {
        let mut words = text.split_whitespace();
        let call = words.next().ok_or(LineError::NoCall)?.to_owned();
        let argument = |word: &str| {
            let (number, value) = word.strip_prefix("arg")?.split_once("=0x")?;
            Some((number.parse().ok()?, u32::from_str_radix(value, 16).ok()?))
        };
        let arguments = words
            .map(|word| argument(word).ok_or_else(|| LineError::Argument(word.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self { call, arguments })
    }
}

/// Parses lines of the form `CALL argN=0xVALUE: PLACE PLACE`; lines that begin with `#` are
/// comments.
///
/// # Errors
/// With the number of the line that has another form.
pub(crate) fn parse_observed(text: &str) -> Result<Observed, ReviewError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let (form, places) = line.split_once(": ").ok_or(LineError::NoPlace)?;
        let places: BTreeSet<String> = places.split_whitespace().map(str::to_owned).collect();
        Ok((form.parse()?, places))
    };
    lines.map(|(line, text)| read(text).map_err(|fault| ReviewError::Line { line, fault })).collect()
}

/// An element of the policy: a call, or a call with a value that a condition names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    call: String,
    value: Option<u32>,
}

impl Element {
    /// Returns the call with all its values.
    pub(crate) fn of_any_value(&self) -> Self {
        Self { call: self.call.clone(), value: None }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        self.value.map_or(Ok(()), |value| write!(f, " {value:#x}"))
    }
}

/// The differences between a policy and an observation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Review {
    /// Observed, but not permitted.
    pub(crate) lacking: Vec<Form>,
    /// Permitted and not observed, with a reason.
    pub(crate) explained: Vec<Element>,
    /// Permitted, but neither observed nor explained.
    pub(crate) unexplained: Vec<Element>,
    /// Explained as not observed, but observed, or not in the policy at all.
    pub(crate) outdated: Vec<Element>,
}

impl Review {
    /// Compares the policy of this text with the observation.
    ///
    /// # Errors
    /// If the policy or a reason in it cannot be parsed.
    pub(crate) fn new(text: &str, observed: &Observed) -> Result<Self, ReviewError> {
        let policy = Policy::parse(text)?;
        let reasons = reasons(text)?;
        let elements = elements(&policy);
        let was_seen = |element: &&Element| observed.keys().any(|form| is_seen_in(element, &policy, form));
        let is_explained = |element: &&Element| {
            reasons.contains_key(*element) || reasons.contains_key(&element.of_any_value())
        };
        let lacking = lacking(&policy, observed);
        let unseen = elements.iter().filter(|element| !was_seen(element)).cloned();
        let (explained, unexplained) = unseen.partition(|element| is_explained(&element));
        let is_outdated = |(element, is_firm): &(&Element, &bool)| {
            !elements.contains(element) || **is_firm && was_seen(element)
        };
        let outdated = reasons.iter().filter(is_outdated).map(|(element, _)| element.clone()).collect();
        Ok(Self { lacking, explained, unexplained, outdated })
    }

    /// Returns a line for each fault; none if there are none.
    pub(crate) fn faults(&self, observed: &Observed) -> Vec<String> {
        let places = |form: &Form| {
            let places = observed.get(form).into_iter().flatten().map(String::as_str);
            places.collect::<Vec<_>>().join(" ")
        };
        let lacking =
            self.lacking.iter().map(|form| format!("not permitted: {form} (observed: {})", places(form)));
        let unexplained =
            self.unexplained.iter().map(|element| format!("not observed, without a reason: {element}"));
        let outdated = self.outdated.iter().map(|element| {
            format!("outdated reason, since the call was observed or the policy lacks it: {element}")
        });
        lacking.chain(unexplained).chain(outdated).collect()
    }
}

/// Returns the observed forms that the policy does not permit.
pub(crate) fn lacking(policy: &Policy, observed: &Observed) -> Vec<Form> {
    observed.keys().filter(|form| !allows(policy, form)).cloned().collect()
}

/// Returns the arguments of `call` that the policy restricts.
pub(crate) fn restricted(policy: &Policy, call: &str) -> BTreeSet<u8> {
    let alternatives = policy.allowed.get(call).into_iter().flatten();
    alternatives.flatten().map(|condition| condition.argument).collect()
}

/// Returns whether the policy's action for it does not kill the service.
fn allows(policy: &Policy, form: &Form) -> bool {
    let holds = |condition: &Condition| {
        form.arguments.get(&condition.argument).is_some_and(|actual| match condition.test {
            Test::Equal => *actual == condition.value,
            Test::Unequal => *actual != condition.value,
            Test::Masked(mask) => actual & mask == condition.value,
        })
    };
    let is_allowed = |alternatives: &Vec<Alternative>| {
        alternatives.is_empty() || alternatives.iter().any(|conditions| conditions.iter().all(holds))
    };
    policy.refused.contains_key(&form.call) || policy.allowed.get(&form.call).is_some_and(is_allowed)
}

/// Returns everything that the policy permits or answers with an error: calls, and the values that
/// their conditions name.
pub(crate) fn elements(policy: &Policy) -> BTreeSet<Element> {
    let refused = policy.refused.keys().map(|call| Element { call: call.clone(), value: None });
    let allowed = policy.allowed.iter().flat_map(|(call, alternatives)| {
        let values = alternatives.iter().flatten().flat_map(named_values).map(Some);
        values.chain([None]).map(|value| Element { call: call.clone(), value })
    });
    refused.chain(allowed).collect()
}

/// Returns the values that a condition permits by name: numbers and single bits. A condition that
/// excludes values names none.
fn named_values(condition: &Condition) -> Vec<u32> {
    match condition.test {
        Test::Equal => vec![condition.value],
        Test::Unequal => Vec::new(),
        Test::Masked(mask) if condition.value != 0 => vec![mask],
        // `in ~BITS` does not restrict the highest bit; a list of bits does not have it.
        Test::Masked(mask) if mask.leading_ones() == 0 => Vec::new(),
        Test::Masked(mask) => (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit == 0).collect(),
    }
}

/// Returns whether the element includes this form.
fn is_seen_in(element: &Element, policy: &Policy, form: &Form) -> bool {
    let Some(value) = element.value else { return form.call == element.call };
    let conditions = policy.allowed.get(&element.call).into_iter().flatten().flatten();
    let mut naming = conditions.filter(|condition| named_values(condition).contains(&value));
    form.call == element.call
        && naming.any(|condition| {
            form.arguments.get(&condition.argument).is_some_and(|actual| match condition.test {
                Test::Masked(_) => actual & value != 0,
                Test::Equal | Test::Unequal => *actual == value,
            })
        })
}

/// Returns the elements that the comments of a policy explain, and whether each must not have been
/// observed.
fn reasons(text: &str) -> Result<BTreeMap<Element, bool>, ReviewError> {
    let firm = explained(text, "not observed")?.into_iter().map(|element| (element, true));
    let other = explained(text, "not always observed")?.into_iter().map(|element| (element, false));
    Ok(firm.chain(other).collect())
}

/// Returns the elements in comments of the form `# KEYWORD: CALL VALUE, CALL: WHY`.
///
/// # Errors
/// If such a comment has no reason, or names no known value.
pub(crate) fn explained(text: &str, keyword: &str) -> Result<BTreeSet<Element>, ReviewError> {
    let mut found = BTreeSet::new();
    for (line, text) in (1..).zip(text.lines()) {
        let comment = text.strip_prefix("# ").and_then(|text| text.strip_prefix(keyword));
        let Some(rest) = comment.and_then(|text| text.strip_prefix(": ")) else { continue };
        let of_line = |fault| ReviewError::Line { line, fault };
        let (subjects, _) = rest
            .split_once(": ")
            .filter(|(_, why)| !why.trim().is_empty())
            .ok_or_else(|| of_line(LineError::NoReason))?;
        for subject in subjects.split(',') {
            found.insert(element(subject.trim()).map_err(of_line)?);
        }
    }
    Ok(found)
}

/// Parses a call, or a call and a value.
fn element(text: &str) -> Result<Element, LineError> {
    let (call, value) = text.split_once(' ').map_or((text, None), |(call, value)| (call, Some(value)));
    Ok(Element { call: call.to_owned(), value: value.map(constant).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
        # not observed: brk, ioctl 0x20: for another day\n\
        # not always observed: yield: by chance\n\
        brk: 1\n\
        yield: 1\n\
        ioctl: arg1 == 0x10 || arg1 == 0x20\n\
        openat: arg2 in O_RDWR|O_NONBLOCK\n\
        mmap: arg2 in ~PROT_EXEC\n\
        clone: arg0 & CLONE_THREAD\n\
        clone3: return ENOSYS\n";

    const ALL_SEEN: &str = "\
        # a comment\n\
        clone arg0=0x3d0f00: host\n\
        clone3: host\n\
        ioctl arg1=0x10: host guest\n\
        mmap arg2=0x3: host\n\
        openat arg2=0x802: guest\n";

    fn faults(policy: &str, observed: &str) -> Vec<String> {
        let observed = parse_observed(observed).expect("sound");
        Review::new(policy, &observed).expect("sound").faults(&observed)
    }

    #[test]
    fn observed_or_explained_calls_cause_no_fault() {
        assert_eq!(faults(POLICY, ALL_SEEN), [""; 0]);
        assert_eq!(faults(POLICY, &format!("{ALL_SEEN}yield: host\n")), [""; 0], "it may be observed or not");
    }

    #[test]
    fn every_observed_call_must_be_allowed() {
        let more = "ioctl arg1=0x30: host guest\nmmap arg2=0x5: host\nopen: guest\nclone arg0=0x11: host\n";
        let faults = faults(POLICY, &format!("{ALL_SEEN}{more}"));
        assert_eq!(
            faults,
            [
                "not permitted: clone arg0=0x11 (observed: host)",
                "not permitted: ioctl arg1=0x30 (observed: guest host)",
                "not permitted: mmap arg2=0x5 (observed: host)",
                "not permitted: open (observed: guest)",
            ]
        );
    }

    #[test]
    fn an_allowed_call_that_was_not_observed_needs_a_reason() {
        let unseen = |less: &str, instead: &str| faults(POLICY, &ALL_SEEN.replace(less, instead));
        let fault = |element: &str| [format!("not observed, without a reason: {element}")];
        assert_eq!(unseen("arg1=0x10", "arg1=0x20").len(), 2, "one is unseen, one is seen after all");
        assert_eq!(unseen("arg2=0x802", "arg2=0x2"), fault("openat 0x800"));
        assert_eq!(unseen("mmap arg2=0x3: host\n", ""), fault("mmap"));
        assert_eq!(unseen("clone3: host\n", ""), fault("clone3"));
    }

    #[test]
    fn a_reason_for_what_was_observed_or_is_not_there_is_outdated() {
        let fault = "outdated reason, since the call was observed or the policy lacks it: ";
        assert_eq!(faults(POLICY, &format!("{ALL_SEEN}brk: host\n")), [format!("{fault}brk")]);
        let policy = format!("# not observed: execve: never\n{POLICY}");
        assert_eq!(faults(&policy, ALL_SEEN), [format!("{fault}execve")]);
    }

    #[test]
    fn a_reason_says_something() {
        let refusal =
            |policy: &str| Review::new(policy, &Observed::new()).expect_err("no reason").to_string();
        assert!(refusal("# not observed: brk\nbrk: 1\n").contains("line 1: the reason"));
        assert!(refusal("brk: 1\n# not observed: brk F_WHAT: why\n").contains("line 2: \"F_WHAT\""));
    }

    #[test]
    fn forms_are_read_as_they_are_written() {
        let form: Form = "fcntl arg1=0x409 arg2=0x10".parse().expect("sound");
        assert_eq!((form.call.as_str(), form.arguments[&1], form.arguments[&2]), ("fcntl", 0x409, 16));
        assert_eq!(form.to_string(), "fcntl arg1=0x409 arg2=0x10");
        assert!("fcntl arg1=7".parse::<Form>().is_err());
        let no_place = ReviewError::Line { line: 2, fault: LineError::NoPlace };
        assert_eq!(parse_observed("# comment\nread\n"), Err(no_place));
    }

    #[test]
    fn the_arguments_that_matter_are_those_of_the_policy() {
        let policy = Policy::parse(POLICY).expect("sound");
        assert_eq!(restricted(&policy, "openat"), BTreeSet::from([2]));
        assert_eq!(restricted(&policy, "brk"), BTreeSet::new());
        assert_eq!(restricted(&policy, "execve"), BTreeSet::new());
    }
}
