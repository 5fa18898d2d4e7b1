// SPDX-License-Identifier: Apache-2.0
//! Filters every line before it is written: a message cannot forge another line, and messages of
//! the binder library about one client are limited to one line a second.

use crate::allocator::Throttles;
use anion_ipc::calling_identity;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::{self, Display, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Most characters of a message that are logged.
const MAX_CHARACTERS: usize = 4000;
/// Stands for an unknown client, as before a call is read.
const NOBODY: u32 = u32::MAX;

/// A logger that filters for another logger.
pub(super) struct Front<L> {
    logger: L,
    /// Limits lines of the binder library; `None` to log all of them, for debugging.
    library: Option<Mutex<Throttles>>,
}

impl<L: Log> Front<L> {
    /// Returns a filter for `logger`, which logs at `level`.
    pub(super) fn new(logger: L, level: LevelFilter) -> Self {
        Self { logger, library: (level < Level::Debug).then(Mutex::default) }
    }

    /// Returns how many lines of the library were dropped before this one; `None` to drop this one.
    fn admit(&self) -> Option<u64> {
        let Some(throttles) = &self.library else { return Some(0) };
        let uid = calling_identity().map_or(NOBODY, |identity| identity.uid);
        throttles.lock().unwrap_or_else(PoisonError::into_inner).admit(uid, Instant::now())
    }
}

impl<L: Log> Log for Front<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.logger.enabled(record.metadata()) {
            return;
        }
        let is_librarys = record.target().starts_with("rsbinder");
        let before = if is_librarys { self.admit() } else { Some(0) };
        let text = Plain { message: record.args(), is_one_line: is_librarys };
        let mut to_log = Record::builder();
        to_log.metadata(record.metadata().clone()).module_path(record.module_path());
        match before {
            Some(0) => self.logger.log(&to_log.args(format_args!("{text}")).build()),
            Some(before) => self.logger.log(
                &to_log.args(format_args!("{text} ({before} more like it since the last line)")).build(),
            ),
            None => {}
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

/// A message without control characters of terminals and the journal. A message of the library,
/// which can contain text of clients, becomes one line.
struct Plain<M> {
    message: M,
    is_one_line: bool,
}

impl<M: Display> Display for Plain<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.message.to_string();
        for character in text.chars().take(MAX_CHARACTERS) {
            if character.is_control() && (self.is_one_line || !matches!(character, '\n' | '\t')) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Warn
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().expect("no panic").push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    fn logged(level: LevelFilter, target: &str, lines: &[&str]) -> Vec<String> {
        let front = Front::new(Kept::default(), level);
        for line in lines {
            let mut record = Record::builder();
            front.log(&record.level(Level::Warn).target(target).args(format_args!("{line}")).build());
        }
        front.logger.0.into_inner().expect("no panic")
    }

    #[test]
    fn the_library_has_one_line_a_second_and_all_of_them_for_debugging() {
        let lines = ["a"; 5];
        assert_eq!(logged(LevelFilter::Info, "rsbinder::parcel", &lines).len(), 1);
        assert_eq!(logged(LevelFilter::Debug, "rsbinder::parcel", &lines).len(), 5);
        assert_eq!(logged(LevelFilter::Info, "anion", &lines).len(), 5);
    }

    #[test]
    fn no_line_is_forged_and_none_is_endless() {
        let forged = ["one\n<3>two\x1b[2J\r"];
        assert_eq!(logged(LevelFilter::Info, "rsbinder", &forged), ["one\\n<3>two\\u{1b}[2J\\r"]);
        assert_eq!(logged(LevelFilter::Info, "anion", &forged), ["one\n<3>two\\u{1b}[2J\\r"]);
        let long = "x".repeat(10 * MAX_CHARACTERS);
        assert_eq!(logged(LevelFilter::Info, "anion", &[&long])[0].len(), MAX_CHARACTERS);
    }
}
