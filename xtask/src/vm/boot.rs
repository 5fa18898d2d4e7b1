// SPDX-License-Identifier: Apache-2.0
//! Boots guests and follows their serial logs.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::progress::Progress;
use super::{TICK, check_wanted};
use crate::process::{Killed, line_of, lossy_lines};
use crate::tally::{Tally, plain};

/// Boots the guest, reads its serial log to the end and evaluates it. `emulator` returns the
/// command that boots it. If the guest's kernel panics, the guest is booted once more.
pub(super) fn boot(
    name: &str,
    emulator: impl Fn() -> Command,
    mut log: Option<&mut File>,
    timeout: Duration,
    begin: impl Fn() -> Progress,
    tally: &mut Tally,
) -> Result<()> {
    let start = Instant::now();
    let attempt = |progress: &mut Progress| follow(name, emulator(), log.as_deref_mut(), timeout, progress);
    let (progress, result) = until_no_panic(name, begin, attempt);
    *tally += progress.tally();
    println!("{name}: {} in {:.1} s", progress.tally(), start.elapsed().as_secs_f64());
    result
}

/// Attempts to run a guest, and attempts it once more if the guest's kernel panicked, after it
/// printed the kernel's messages. Returns the last attempt.
///
/// No program may cause a panic, and an emulated kernel panics once in many runs ("Oops: int3" in
/// `sched_clock_cpu`): a kernel that patches a branch writes an `int3` there for a moment, and QEMU
/// 7.2 can execute it after the kernel has replaced it.
fn until_no_panic(
    name: &str,
    begin: impl Fn() -> Progress,
    mut attempt: impl FnMut(&mut Progress) -> Result<()>,
) -> (Progress, Result<()>) {
    let mut progress = begin();
    match attempt(&mut progress) {
        Err(error) if progress.has_panicked() => {
            println!("{name}: {error:#}\n{name}: the guest is started once more, since its kernel panicked");
            progress = begin();
            let result = attempt(&mut progress);
            (progress, result)
        }
        result => (progress, result),
    }
}

/// Boots the guest once, and feeds its serial log to `progress`.
fn follow(
    name: &str,
    mut emulator: Command,
    mut log: Option<&mut File>,
    timeout: Duration,
    progress: &mut Progress,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let line = line_of(&emulator);
    emulator.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut guest = Killed(emulator.spawn().with_context(|| format!("cannot start `{line}`"))?);
    let serial = guest.0.stdout.take().context("the emulator has no output")?;
    let (sender, lines) = mpsc::channel();
    // Ends with the emulator's output or, if the guest was ended early, with the following line.
    std::thread::spawn(move || lossy_lines(serial).try_for_each(|line| sender.send(line)));
    loop {
        check_wanted()?;
        match lines.recv_timeout(TICK) {
            Ok(text) => {
                let text = plain(&text.context("cannot read the guest's serial log")?);
                if let Some(log) = &mut log {
                    writeln!(log, "{text}").context("cannot write the guest's log")?;
                }
                println!("{name}| {text}");
                if let Some(told) = progress.feed(&text, Instant::now()) {
                    println!("{name}: {told}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return progress.judge(),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => {
                let place = progress.place();
                bail!("the guest did not end within {} s; it was {place}", timeout.as_secs());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::guest::Course;

    /// Runs attempts with these serial logs. Returns the last attempt and the number of attempts.
    fn attempts(logs: [&str; 2]) -> (Result<()>, Tally, usize) {
        let mut made = 0;
        let begin = || Progress::of(&Course::Only(&[&["hub"]]));
        let (progress, result) = until_no_panic("guest", begin, |progress| {
            logs[made].lines().for_each(|line| drop(progress.feed(line, Instant::now())));
            made += 1;
            progress.judge()
        });
        (result, progress.tally(), made)
    }

    const PANICS: &str =
        "ANION-BEGIN hub\n[    1.5] Kernel panic - not syncing: Fatal exception in interrupt";
    const PASSES: &str = "ANION-BEGIN hub\nANION-STEP hub ok\nANION-VERDICT passed";
    const FAILS: &str = "ANION-BEGIN hub\nANION-STEP hub FAILED\nANION-VERDICT FAILED";

    #[test]
    fn a_guest_is_started_once_more_only_if_its_kernel_panicked() {
        let one = |passed| Tally::one(passed);
        let (result, tally, made) = attempts([PANICS, PASSES]);
        result.expect("the second time");
        assert_eq!((tally, made), (one(true), 2));
        let (result, _, made) = attempts([PANICS, PANICS]);
        let error = result.expect_err("it panics each time").to_string();
        assert!(error.contains("the guest's kernel panicked in step hub") && made == 2, "{error}");
        let (result, tally, made) = attempts([FAILS, PASSES]);
        assert!(result.expect_err("it failed").to_string().contains("step hub: FAILED"));
        assert_eq!((tally, made), (one(false), 1));
        assert_eq!(attempts([PASSES, FAILS]).2, 1);
    }
}
