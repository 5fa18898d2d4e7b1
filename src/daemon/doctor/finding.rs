// SPDX-License-Identifier: Apache-2.0
//! A finding: one property of the machine, with its state and how to change it.

use serde::Serialize;

/// State of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Present and usable.
    Ok,
    /// Present, but less than the service could use.
    Limited,
    /// Absent, or closed to this user.
    Missing,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) state: State,
    /// The result of the check.
    pub(crate) found: String,
    /// Its meaning for Anion.
    pub(crate) means: String,
    /// The command that changes it, or what is required; `None` if there is nothing to change.
    pub(crate) change: Option<String>,
    /// Whether the service needs it to start.
    pub(crate) required: bool,
}

impl Finding {
    fn new(what: &str, state: State, found: impl Into<String>, means: impl Into<String>) -> Self {
        let (found, means) = (found.into(), means.into());
        Self { what: what.to_owned(), state, found, means, change: None, required: false }
    }

    pub(crate) fn ok(what: &str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(what, State::Ok, found, means)
    }

    pub(crate) fn limited(what: &str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(what, State::Limited, found, means)
    }

    pub(crate) fn missing(what: &str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(what, State::Missing, found, means)
    }

    /// Adds the command that changes it.
    pub(crate) fn change(mut self, command: impl Into<String>) -> Self {
        self.change = Some(command.into());
        self
    }

    /// Marks it as required for the start of the service.
    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }
}
