// SPDX-License-Identifier: Apache-2.0
//! `anionctl reserve`: reserve buffers, and print how many are ready.

use crate::args::ReserveArgs;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Waited};
use crate::output::{self, Output, Report};
use crate::{Service, restart};
use anion_ipc::Strong;
use serde::Serialize;
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IReservation::IReservation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReservationRequest::ReservationRequest;

/// Longest wait for all buffers before the report.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two checks whether the buffers are ready.
const LOOK: Duration = Duration::from_millis(5);
/// Time between two checks whether the reservation still exists.
const CHECK: Duration = Duration::from_secs(1);

/// The reservation.
#[derive(Debug, Serialize)]
struct ReserveReport {
    heap: String,
    size: i64,
    count: i32,
    ready: i32,
    /// From the call until all buffers were ready; none if not all are.
    ready_us: Option<u64>,
}

/// A reservation, and the connection over which it is held.
struct Held {
    reservation: Strong<dyn IReservation>,
    _service: Service,
}

impl Held {
    fn by(args: &ReserveArgs, connect: impl Fn() -> Result<Service, Failure>) -> Result<Self, Failure> {
        let service = connect()?;
        let request = ReservationRequest { size: args.size, count: args.count, heapName: args.heap.clone() };
        Ok(Self { reservation: service.interface().reserve(&request)?, _service: service })
    }
}

/// Reserves buffers, prints a report when all are ready, and keeps the reservation for the
/// requested time. Reserves again after a restart of the service, and reports this on standard
/// error.
pub(crate) fn run(
    args: &ReserveArgs,
    connect: impl Fn() -> Result<Service, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    // Before the reservation, so that a signal releases it cleanly.
    let mut interrupt = Interrupt::new()?;
    let started = Instant::now();
    let mut held = Held::by(args, &connect)?;
    let patience = args.hold.unwrap_or(PATIENCE).min(PATIENCE);
    let (mut ready, mut waited) = (held.reservation.ready()?, Waited::Elapsed);
    while ready < args.count && started.elapsed() < patience && waited == Waited::Elapsed {
        waited = interrupt.wait(LOOK)?;
        ready = held.reservation.ready()?;
    }
    let took = started.elapsed();
    output.show(&ReserveReport {
        heap: args.heap.clone(),
        size: args.size,
        count: args.count,
        ready,
        ready_us: (ready >= args.count).then(|| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
    })?;
    let hold = args.hold.unwrap_or_default();
    while waited == Waited::Elapsed && started.elapsed() < hold {
        waited = interrupt.wait(CHECK.min(hold.saturating_sub(started.elapsed())))?;
        if let Err(gone @ Failure::Unreachable(_)) = held.reservation.ready().map_err(Failure::from) {
            match restart::wait(|| Held::by(args, &connect), &gone, &mut interrupt)? {
                Some(again) => held = again,
                None => return Ok(()),
            }
        }
    }
    held.reservation.release()?;
    Ok(())
}

impl Report for ReserveReport {
    fn text(&self, _: Option<usize>) -> String {
        let time =
            self.ready_us.map_or_else(String::new, |us| format!(" in {:.1?}", Duration::from_micros(us)));
        format!(
            "{} of {} buffers of {} ready in heap {}{time}",
            self.ready,
            self.count,
            output::size(self.size),
            self.heap
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_told_once_all_are_ready() {
        let report = ReserveReport {
            heap: "camera".to_owned(),
            size: 8 << 20,
            count: 4,
            ready: 4,
            ready_us: Some(2_500),
        };
        assert_eq!(report.text(None), "4 of 4 buffers of 8.0 MiB ready in heap camera in 2.5ms");
        let report = ReserveReport { ready: 3, ready_us: None, ..report };
        assert_eq!(report.text(None), "3 of 4 buffers of 8.0 MiB ready in heap camera");
    }
}
