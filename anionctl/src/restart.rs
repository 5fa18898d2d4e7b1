// SPDX-License-Identifier: Apache-2.0
//! Waits for the service to return after a restart.

use crate::failure::Failure;
use crate::interrupt::{Interrupt, Waited};
use std::io::{self, Write};
use std::time::Duration;

/// First pause between two attempts to reach a missing service; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Repeats `begin` until the service is back after the failure `gone`; `None` if a signal comes
/// before. Reports the failure and the return on standard error.
///
/// # Errors
/// As `begin`, except when the service cannot be reached.
pub(crate) fn wait<T>(
    begin: impl Fn() -> Result<T, Failure>,
    gone: &Failure,
    interrupt: &mut Interrupt,
) -> Result<Option<T>, Failure> {
    say(&format!("{}; waiting for it", gone.message().unwrap_or_default()));
    let mut pause = FIRST_PAUSE;
    loop {
        match begin() {
            Ok(begun) => {
                say("the service runs again");
                return Ok(Some(begun));
            }
            Err(Failure::Unreachable(_)) => {}
            Err(failure) => return Err(failure),
        }
        if interrupt.wait(pause)? == Waited::Interrupted {
            return Ok(None);
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn say(message: &str) {
    // If standard error is closed, the message cannot be reported elsewhere.
    let _ = writeln!(io::stderr(), "anionctl: {message}");
}
