// SPDX-License-Identifier: Apache-2.0
//! `anionctl trace`: writes the service's journal as a trace for ui.perfetto.dev.
//!
//! The file is a sequence of packets, which are written at once: a long trace takes no memory.

mod encode;
mod packets;

use crate::Service;
use crate::args::TraceArgs;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Waited};
use crate::journal::{self, Journal};
use crate::output::{Output, Report};
use crate::restart;
use packets::Packets;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two reads of the journal, which keeps more events than occur in this time.
const LOOK: Duration = Duration::from_millis(100);

/// The result of the command.
#[derive(Debug, Serialize)]
struct Traced {
    events: u64,
    /// Events that the journal dropped before they were read.
    lost: u64,
    bytes: u64,
    file: String,
}

/// Writes a trace until the time is over or a signal arrives. Waits for a service that has ended.
///
/// # Errors
/// The errors of the service; [`Failure::Local`] if the file cannot be written.
pub(crate) fn run(
    args: &TraceArgs,
    connect: impl Fn() -> Result<Service, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::new()?;
    let mut service = connect()?;
    let mut since = if args.past { 0 } else { journal::read(service.interface(), u64::MAX)?.next };
    let what = format!("cannot write {}", args.output.display());
    let failed = |error| Failure::local(&what, &error);
    let mut file = File::create(&args.output).map_err(failed)?;
    let mut traced = Traced { events: 0, lost: 0, bytes: 0, file: args.output.display().to_string() };
    let (mut packets, started) = (Packets::new(), Instant::now());
    let mut is_last = false;
    loop {
        match journal::read(service.interface(), since) {
            Ok(journal) => {
                traced.add(&journal, &mut packets);
                since = journal.next;
            }
            Err(gone @ Failure::Unreachable(_)) => {
                match restart::wait(&connect, &gone, &mut interrupt)? {
                    Some(again) => service = again,
                    None => is_last = true,
                }
                // A restarted service counts events from 0.
                since = 0;
            }
            Err(failure) => return Err(failure),
        }
        let bytes = packets.take();
        file.write_all(&bytes).map_err(failed)?;
        traced.bytes += bytes.len() as u64;
        if is_last {
            return output.show(&traced);
        }
        let left = args.seconds.map(|time| time.saturating_sub(started.elapsed()));
        is_last = left.is_some_and(|left| left.is_zero())
            || interrupt.wait(left.map_or(LOOK, |left| left.min(LOOK)))? == Waited::Interrupted;
    }
}

impl Traced {
    /// Adds a part of the journal, and the bytes that clients of the heaps hold now.
    fn add(&mut self, journal: &Journal, packets: &mut Packets) {
        if self.events == 0 && self.bytes == 0 {
            let begin = journal.events.first().map_or(journal.now_ns, |event| event.at_ns);
            packets.add_pressure(begin, &journal.pressure);
        }
        for event in &journal.events {
            packets.add(event);
        }
        for heap in &journal.heaps {
            packets.add_occupancy(journal.now_ns, heap);
        }
        self.events += journal.events.len() as u64;
        self.lost += journal.lost;
    }
}

impl Report for Traced {
    fn text(&self, _: Option<usize>) -> String {
        let lost = match self.lost {
            0 => String::new(),
            lost => {
                format!("; {lost} more happened faster than they were read, or before the journal begins")
            }
        };
        format!("{} events in {}{lost}; ui.perfetto.dev opens it", self.events, self.file)
    }
}
