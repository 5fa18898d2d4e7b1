// SPDX-License-Identifier: Apache-2.0
//! Ends the service if a thread hangs, so that its supervisor restarts it: a service that accepts
//! no client, or detects no release, does not end by itself.
//!
//! A thread hangs if it has a step to do, and in four successive checks it has ended, or has
//! finished no step, used no processor time and not waited for a processor. So a busy machine or a
//! long step is no hang. Neither is a process that was stopped for a while: it makes no checks
//! while it is stopped.

use super::logging::Output;
use super::supervisor;
use crate::pulse::Watched;
use crate::sys::thread::{Activity, ThreadId, activity, waits_in};
use std::io;
use std::thread;
use std::time::Duration;

/// Checks without progress after which a thread hangs.
const LOOKS: u32 = 4;

/// A thread, and its state at the last check.
struct Suspect {
    watched: Watched,
    seen: Option<State>,
    /// Checks without progress.
    looks: u32,
}

/// The number of finished steps of a thread, and its activity; `None` once the thread has ended.
type State = (u64, Option<Activity>);

/// Starts the thread that watches the others, and reports to the supervisor while they make
/// progress. A thread hangs after `limit`, else after half of the supervisor's watchdog time.
/// Without either, starts no thread.
///
/// # Errors
/// If no thread can be started.
pub(super) fn start(limit: Option<Duration>, threads: Vec<Watched>, output: &Output) -> io::Result<()> {
    let Some(limit) = limit.or_else(|| supervisor::watchdog().map(|wait| wait / 2)) else { return Ok(()) };
    let last_words = output.last_words();
    let mut suspects: Vec<Suspect> = threads.into_iter().map(Suspect::new).collect();
    thread::Builder::new().name("anion-watchdog".to_owned()).spawn(move || {
        loop {
            thread::sleep(limit / LOOKS);
            for suspect in &mut suspects {
                if let Some(thread) = suspect.look() {
                    log::error!(
                        "{}; the service ends, to be started again",
                        describe(thread, suspect, limit)
                    );
                    last_words();
                    std::process::abort();
                }
            }
            supervisor::alive();
        }
    })?;
    Ok(())
}

impl Suspect {
    fn new(watched: Watched) -> Self {
        Self { watched, seen: None, looks: 0 }
    }

    /// Checks the thread. Returns it if it hangs.
    fn look(&mut self) -> Option<ThreadId> {
        // A thread without a first step has not begun.
        let (thread, steps) = self.watched.pulse.read()?;
        let now = (steps, activity(thread));
        let is_stuck = self.seen == Some(now) && now.1.is_none_or(|activity| activity.state != 'R');
        self.seen = Some(now);
        self.looks = if (self.watched.is_due)() && is_stuck { self.looks + 1 } else { 0 };
        (self.looks >= LOOKS).then_some(thread)
    }
}

fn describe(thread: ThreadId, suspect: &Suspect, limit: Duration) -> String {
    let task = suspect.watched.task;
    let Some((_, Some(activity))) = suspect.seen else { return format!("the thread that {task} has ended") };
    let place = waits_in(thread).map_or(String::new(), |place| format!(" in the kernel's {place}"));
    let state = activity.state;
    format!("the thread that {task} hangs: no progress for {limit:?}, and it waits{place} (state {state})")
}
