// SPDX-License-Identifier: Apache-2.0
//! Reads the text form of minijail's seccomp policies, as far as Anion's policies use it, and
//! converts it to the input of `seccompiler`.
//!
//! A line names a system call and the condition under which it is allowed:
//!
//! - `read: 1`: always.
//! - `socket: arg0 == AF_UNIX`: for some arguments. `==` and `!=` compare, `&` tests that a bit is
//!   set, and `in` that no other bits are set. `&&` and `||` join conditions.
//! - `clone3: return ENOSYS`: never; it returns this error, and the process continues.
//!
//! Lines that begin with `#` are comments, and a `\` at the end of a line continues it. Only the
//! lower 32 bits of arguments are compared: the kernel ignores the other bits of the arguments that
//! the policies compare.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The allowed system calls.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// Allowed calls, each with alternatives, one of which must hold; an empty list means always.
    pub(super) allowed: BTreeMap<String, Vec<Alternative>>,
    /// Calls that return this error.
    pub(super) refused: BTreeMap<String, i32>,
}

/// Conditions that must hold together.
pub(super) type Alternative = Vec<Condition>;

/// Condition on an argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// From 0.
    pub(super) argument: u8,
    pub(super) test: Test,
    pub(super) value: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Unequal,
    /// The bits of this mask must equal those of the value.
    Masked(u32),
}

/// Reason why a policy is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {fault}")]
pub(super) struct PolicyError {
    line: usize,
    fault: RuleError,
}

/// Reason why a rule, or a word of it, is invalid.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub(super) enum RuleError {
    #[error("{0:?} is not of the form NAME: RULE")]
    NoRule(String),
    /// An earlier rule names the same call.
    #[error("{0} has a rule already")]
    SecondRule(String),
    /// The number does not fit into an `i32`.
    #[error("{0} is no error number")]
    ErrorNumber(String),
    #[error("{0:?} is not of the form argN OPERATOR VALUE")]
    Condition(String),
    /// A condition `&` with more than one bit.
    #[error("{0:?} tests more than one bit")]
    SeveralBits(String),
    #[error("{0:?} is neither a known constant nor a number of 32 bits")]
    Constant(String),
}

impl Policy {
    /// Reads the rules of a policy.
    ///
    /// # Errors
    /// With the line that is invalid, or that names a call again.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for (line, rule) in logical_lines(text) {
            policy.add(&rule).map_err(|fault| PolicyError { line, fault })?;
        }
        Ok(policy)
    }

    fn add(&mut self, rule: &str) -> Result<(), RuleError> {
        let (name, verdict) = rule.split_once(':').ok_or_else(|| RuleError::NoRule(rule.to_owned()))?;
        let (name, verdict) = (name.trim().to_owned(), verdict.trim());
        if self.allowed.contains_key(&name) || self.refused.contains_key(&name) {
            return Err(RuleError::SecondRule(name));
        }
        if let Some(error) = verdict.strip_prefix("return ") {
            let number = constant(error.trim())?;
            let number = i32::try_from(number).map_err(|_| RuleError::ErrorNumber(error.to_owned()))?;
            self.refused.insert(name, number);
        } else if verdict == "1" {
            self.allowed.insert(name, Vec::new());
        } else {
            let alternatives = verdict
                .split("||")
                .map(|conditions| conditions.split("&&").map(condition).collect())
                .collect::<Result<_, _>>()?;
            self.allowed.insert(name, alternatives);
        }
        Ok(())
    }

    /// Returns it as JSON for `seccompiler`: a filter for each error number, then the filter of
    /// allowed calls. The kernel runs all of them and applies the strictest result, so the last one
    /// allows the calls that the others refuse.
    pub(super) fn to_filters(&self) -> Vec<Value> {
        let mut by_error: BTreeMap<i32, Vec<Value>> = BTreeMap::new();
        for (name, error) in &self.refused {
            by_error.entry(*error).or_default().push(json!({ "syscall": name }));
        }
        let refusing = by_error.into_iter().map(|(error, rules)| {
            json!({ "mismatch_action": "allow", "match_action": { "errno": error }, "filter": rules })
        });
        let allowed = self.allowed.iter().flat_map(|(name, alternatives)| {
            let always = alternatives.is_empty().then(|| json!({ "syscall": name }));
            let sometimes = alternatives.iter().map(move |conditions| {
                let conditions: Vec<Value> = conditions.iter().map(Condition::to_json).collect();
                json!({ "syscall": name, "args": conditions })
            });
            always.into_iter().chain(sometimes)
        });
        let refused = self.refused.keys().map(|name| json!({ "syscall": name }));
        let rules: Vec<Value> = allowed.chain(refused).collect();
        let allowing = json!({ "mismatch_action": "trap", "match_action": "allow", "filter": rules });
        refusing.chain([allowing]).collect()
    }
}

impl Condition {
    fn to_json(&self) -> Value {
        let test = match self.test {
            Test::Equal => json!("eq"),
            Test::Unequal => json!("ne"),
            Test::Masked(mask) => json!({ "masked_eq": mask }),
        };
        json!({ "index": self.argument, "type": "dword", "op": test, "val": self.value })
    }
}

/// Returns the rules with the numbers of their first lines, without comments and with continued
/// lines joined.
pub(super) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut rules: Vec<(usize, String)> = Vec::new();
    let mut is_continued = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (part, continues) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match rules.last_mut().filter(|_| is_continued) {
            Some((_, rule)) => *rule = format!("{rule} {}", part.trim()),
            None => rules.push((index + 1, part.trim().to_owned())),
        }
        is_continued = continues;
    }
    rules
}

fn condition(text: &str) -> Result<Condition, RuleError> {
    let text = text.trim();
    let not_understood = || RuleError::Condition(text.to_owned());
    let mut words = text.splitn(3, ' ');
    let (argument, operator, value) = match (words.next(), words.next(), words.next()) {
        (Some(argument), Some(operator), Some(value)) => (argument, operator, value),
        _ => return Err(not_understood()),
    };
    let argument = argument.strip_prefix("arg").and_then(|number| number.parse().ok());
    let argument: u8 = argument.filter(|number| *number < 6).ok_or_else(not_understood)?;
    let value = bits(value)?;
    let (test, value) = match operator {
        "==" => (Test::Equal, value),
        "!=" => (Test::Unequal, value),
        "in" => (Test::Masked(!value), 0),
        "&" if value.is_power_of_two() => (Test::Masked(value), value),
        "&" => return Err(RuleError::SeveralBits(text.to_owned())),
        _ => return Err(not_understood()),
    };
    Ok(Condition { argument, test, value })
}

/// Reads constants and numbers that are joined by `|`; `~` inverts one.
fn bits(text: &str) -> Result<u32, RuleError> {
    text.split('|').try_fold(0, |all, word| {
        let word = word.trim();
        let value = match word.strip_prefix('~') {
            Some(inverted) => !constant(inverted.trim())?,
            None => constant(word)?,
        };
        Ok(all | value)
    })
}

/// Reads a number or the name of a constant of the C library.
///
/// # Errors
/// [`RuleError::Constant`] if it is neither, or has more than 32 bits.
pub(super) fn constant(word: &str) -> Result<u32, RuleError> {
    let known = CONSTANTS.iter().find(|(name, _)| *name == word).map(|(_, value)| value.cast_unsigned());
    let number = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    known.or(number).ok_or_else(|| RuleError::Constant(word.to_owned()))
}

macro_rules! constants {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Names that policies use. The values of some differ by architecture.
const CONSTANTS: &[(&str, i32)] = constants! {
    AF_UNIX CLONE_THREAD EACCES ENOSYS EPERM
    F_DUPFD_CLOEXEC F_GETFD F_GETFL F_SETFD F_SETFL
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_RDONLY O_RDWR
    PROT_EXEC PROT_READ PROT_WRITE
    PR_SET_NAME PR_SET_VMA
};

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Policy::parse(text).expect_err("not a policy").to_string()
    }

    #[test]
    fn conditions_are_alternatives_of_conjunctions() {
        let policy = Policy::parse("fcntl: arg1 == 3 || arg1 == 4 && \\\n   arg2 in 0x800\n").expect("sound");
        let equal = |value| Condition { argument: 1, test: Test::Equal, value };
        let none_but = Condition { argument: 2, test: Test::Masked(!0x800), value: 0 };
        assert_eq!(policy.allowed["fcntl"], [vec![equal(3)], vec![equal(4), none_but]]);
    }

    #[test]
    fn bits_are_joined_and_inverted() {
        assert_eq!(bits("PROT_READ|PROT_WRITE"), Ok(3));
        assert_eq!(bits("~PROT_EXEC"), Ok(!4));
        assert_eq!(condition("arg2 in ~PROT_EXEC").map(|c| c.test), Ok(Test::Masked(4)));
        assert_eq!(condition("arg0 & 0x10000").map(|c| c.value), Ok(0x10000));
    }

    #[test]
    fn only_the_last_filter_allows_a_call_that_is_refused_with_an_error() {
        let policy = Policy::parse("read: 1\nclone3: return ENOSYS\n").expect("sound");
        let filters = policy.to_filters();
        assert_eq!(filters.len(), 2);
        assert_eq!(filters[0]["match_action"]["errno"], libc::ENOSYS);
        assert_eq!(filters[0]["mismatch_action"], "allow");
        assert_eq!(filters[1]["mismatch_action"], "trap");
        assert_eq!(filters[1]["filter"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn errors_name_line_and_reason() {
        assert_eq!(refusal("# a comment\n\nread\n"), "line 3: \"read\" is not of the form NAME: RULE");
        assert_eq!(refusal("read: 1\nread: 1\n"), "line 2: read has a rule already");
        assert!(refusal("read: arg7 == 1").contains("arg7"));
        assert!(refusal("read: arg0 ~ 1").contains("OPERATOR"));
        assert!(refusal("read: arg0 == NO_SUCH").contains("NO_SUCH"));
        assert!(refusal("read: arg0 == 0x100000000").contains("32 bits"));
        assert!(refusal("read: arg0 & 3").contains("more than one bit"));
        assert!(refusal("read: return SOMETHING").contains("SOMETHING"));
    }
}
