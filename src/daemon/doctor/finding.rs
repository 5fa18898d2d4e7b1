// SPDX-License-Identifier: Apache-2.0
//! One thing that a machine has, has too little of, or lacks.

use serde::Serialize;

/// Whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is there and can be used.
    Ok,
    /// It is there, and could do more.
    Limited,
    /// It is not there, or closed to this user.
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
    /// The command that changes it, or what has to be had; none if there is nothing to change.
    pub(crate) change: Option<String>,
    /// The service does not start without it.
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

    /// Adds what changes it.
    pub(crate) fn change(mut self, command: impl Into<String>) -> Self {
        self.change = Some(command.into());
        self
    }

    /// Marks it as something that the service does not start without.
    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }
}
