// SPDX-License-Identifier: Apache-2.0
//! `anionctl watch`: shows heaps and usage as they change: on a terminal as a full screen
//! (`screen`), elsewhere as a sequence of reports.

#[cfg(not(soong))]
mod screen;

use crate::Service;
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::heaps::{discards, fetch_stats};
use crate::interrupt::{Interrupt, Waited};
use crate::latency::Latency;
use crate::output::{self, Output, Report};
use crate::pressure::Pressure;
use crate::restart;
use crate::rows::{StatsRow, UsageRow};
use crate::table::{Side, Table};
use crate::{usage, words};
use serde::Serialize;
#[cfg(not(soong))]
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::PressureLevel::PressureLevel;

/// A service, and its pressure level.
struct Watched {
    service: Service,
    pressure: Pressure,
}

impl Watched {
    fn by(connect: impl Fn() -> Result<Service, Failure>) -> Result<Self, Failure> {
        let service = connect()?;
        let pressure = Pressure::follow(&service)?;
        Ok(Self { service, pressure })
    }
}

/// Queries the service until the count is reached or a signal comes. Waits for a service that is
/// gone, and reports that on standard error. A restarted service has new counters, so its first
/// report has no rates.
pub(crate) fn run(
    args: &WatchArgs,
    connect: impl Fn() -> Result<Service, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    #[cfg(not(soong))]
    if output.is_terminal() && io::stdin().is_terminal() && !output.is_json() {
        return screen::run(args, connect);
    }
    let mut watched = Watched::by(&connect)?;
    let mut interrupt = Interrupt::new()?;
    let started = Instant::now();
    let mut before: Option<Look> = None;
    for number in 1.. {
        let look = loop {
            match Look::take(&watched.service, &watched.pressure) {
                Err(gone @ Failure::Unreachable(_)) => {
                    before = None;
                    match restart::wait(|| Watched::by(&connect), &gone, &mut interrupt)? {
                        Some(again) => watched = again,
                        None => return Ok(()),
                    }
                }
                look => break look?,
            }
        };
        let report = Changes::between(before.as_ref(), &look, number, started, &watched.service);
        output.show_next(&report)?;
        before = Some(look);
        if args.count == Some(number) {
            break;
        }
        // Counted from the start, because the queries take time, too.
        let next =
            started.checked_add(args.interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX)));
        let pause = next.map_or(args.interval, |next| next.saturating_duration_since(Instant::now()));
        if interrupt.wait(pause)? == Waited::Interrupted {
            break;
        }
    }
    Ok(())
}

/// The service's state at one moment.
struct Look {
    at: Instant,
    stats: Vec<StatsRow>,
    usage: Vec<UsageRow>,
    pressure: PressureLevel,
    pressure_peak: PressureLevel,
}

impl Look {
    /// Queries the service.
    fn take(service: &Service, pressure: &Pressure) -> Result<Self, Failure> {
        let stats = fetch_stats(service.interface())?;
        let at = Instant::now();
        let usage = usage::fetch(service.interface())?;
        let (pressure, pressure_peak) = pressure.look(service)?;
        Ok(Self { at, stats, usage, pressure, pressure_peak })
    }
}

/// A state, with the changes since the one before it.
#[derive(Debug, Serialize)]
struct Changes {
    look: u64,
    elapsed_ms: u64,
    #[serde(skip)]
    endpoint: String,
    pressure: String,
    /// The highest level since the last report.
    pressure_peak: String,
    heaps: Vec<HeapChange>,
    usage: Vec<UsageChange>,
}

/// A heap's counters and their rates; the first report has no rates.
#[derive(Debug, Serialize)]
struct HeapChange {
    #[serde(flatten)]
    stats: StatsRow,
    live_bytes_per_s: Option<f64>,
    allocations_per_s: Option<f64>,
    frees_per_s: Option<f64>,
    /// Of the calls since the last report; null without any.
    interval_p99_us: Option<u64>,
    #[serde(skip)]
    interval: Option<Latency>,
}

/// A client's usage and its rate; the first report has no rates.
#[derive(Debug, Serialize)]
struct UsageChange {
    #[serde(flatten)]
    usage: UsageRow,
    bytes_per_s: Option<f64>,
}

impl Changes {
    fn between(before: Option<&Look>, now: &Look, number: u64, started: Instant, service: &Service) -> Self {
        let interval = before.map_or(Duration::ZERO, |before| now.at - before.at);
        let heap = |stats: &StatsRow| {
            let old = before.and_then(|look| look.stats.iter().find(|old| old.heap_id == stats.heap_id));
            let rate = |of: fn(&StatsRow) -> i64| old.and_then(|old| rate(of(old), of(stats), interval));
            let interval = old.map(|old| stats.allocate_latency.since(&old.allocate_latency));
            HeapChange {
                interval_p99_us: interval.as_ref().and_then(|latency| latency.below_us(99)),
                interval,
                live_bytes_per_s: rate(|stats| stats.live_bytes),
                allocations_per_s: rate(|stats| stats.allocations),
                frees_per_s: rate(|stats| stats.frees),
                stats: stats.clone(),
            }
        };
        let client = |usage: &UsageRow| {
            // A uid that was absent before held nothing.
            let old = before
                .map(|look| look.usage.iter().find(|old| old.uid == usage.uid).map_or(0, |old| old.bytes));
            UsageChange {
                bytes_per_s: old.and_then(|old| rate(old, usage.bytes, interval)),
                usage: usage.clone(),
            }
        };
        Self {
            look: number,
            elapsed_ms: u64::try_from((now.at - started).as_millis()).unwrap_or(u64::MAX),
            endpoint: service.endpoint.to_string(),
            pressure: words::pressure(now.pressure),
            pressure_peak: words::pressure(now.pressure_peak),
            heaps: now.stats.iter().map(heap).collect(),
            usage: now.usage.iter().map(client).collect(),
        }
    }

    /// Returns a table for 80 columns, without the constants, which `list` and `stats` show. P99 is
    /// that of the last interval.
    fn heap_table(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("HEAP", Side::Left, 0),
            ("LIVE", Side::Right, 0),
            ("CHANGE/s", Side::Right, 1),
            ("BUFFERS", Side::Right, 2),
            ("ALLOCS/s", Side::Right, 1),
            ("P99", Side::Right, 3),
            ("DEFERRED", Side::Right, 5),
            ("POOLED", Side::Right, 4),
            ("FAILED", Side::Right, 2),
        ]);
        for HeapChange { stats, live_bytes_per_s, allocations_per_s, interval, .. } in &self.heaps {
            table.add_row([
                stats.heap.clone(),
                output::size(stats.live_bytes),
                bytes_rate(*live_bytes_per_s),
                stats.num_of_buffers.to_string(),
                count_rate(*allocations_per_s),
                interval.as_ref().map_or_else(|| "-".to_owned(), |latency| latency.bound(99)),
                output::size(stats.deferred_bytes),
                output::size(stats.pooled_bytes),
                stats.failures.total().to_string(),
            ]);
        }
        table.text(width)
    }

    /// Returns the counts of pooled and discarded buffers since the service started; discards have
    /// a cause.
    fn pool_table(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("HEAP", Side::Left, 0),
            ("PEAK", Side::Right, 2),
            ("RECYCLED", Side::Right, 0),
            ("MISSED", Side::Right, 1),
            ("SCRUBBED", Side::Right, 3),
            ("DISCARDED", Side::Left, 4),
        ]);
        for HeapChange { stats, .. } in &self.heaps {
            table.add_row([
                stats.heap.clone(),
                output::size(stats.alloc_bytes_wm),
                stats.recycled.to_string(),
                stats.pool_misses.to_string(),
                output::size(stats.scrubbed_bytes),
                discards(stats.discarded, &stats.discarded_by_cause),
            ]);
        }
        table.text(width)
    }

    fn usage_table(&self, width: Option<usize>) -> String {
        let mut table = Table::new(&[
            ("UID", Side::Right, 0),
            ("USER", Side::Left, 1),
            ("POLICY", Side::Left, 3),
            ("HELD", Side::Right, 0),
            ("CHANGE/s", Side::Right, 1),
            ("BUFFERS", Side::Right, 2),
            ("RESERVED", Side::Right, 3),
            ("PEAK", Side::Right, 2),
            ("QUOTA", Side::Right, 1),
        ]);
        for UsageChange { usage, bytes_per_s } in &self.usage {
            table.add_row([
                usage.uid.to_string(),
                usage.user.clone(),
                usage.policy.clone(),
                output::size(usage.bytes),
                bytes_rate(*bytes_per_s),
                usage.buffers.to_string(),
                output::size(usage.reserved_bytes),
                output::size(usage.peak_bytes),
                output::limit(usage.quota_bytes, output::size),
            ]);
        }
        table.text(width)
    }
}

impl Report for Changes {
    fn text(&self, width: Option<usize>) -> String {
        let elapsed = humantime::format_duration(Duration::from_secs(self.elapsed_ms / 1000));
        let pressure = if self.pressure == self.pressure_peak {
            self.pressure.clone()
        } else {
            format!("{}, was {}", self.pressure, self.pressure_peak)
        };
        format!(
            "{} · look {} · {elapsed} · memory pressure: {pressure}\n\n{}\n\n{}\n\n{}\n",
            self.endpoint,
            self.look,
            self.heap_table(width),
            self.pool_table(width),
            self.usage_table(width)
        )
    }
}

/// Returns the change per second; none if no time passed.
fn rate(old: i64, new: i64, interval: Duration) -> Option<f64> {
    let seconds = interval.as_secs_f64();
    (seconds > 0.0).then(|| new.saturating_sub(old) as f64 / seconds)
}

/// Returns a rate of bytes as text, with its sign.
fn bytes_rate(rate: Option<f64>) -> String {
    let Some(rate) = rate else { return "-".to_owned() };
    #[expect(clippy::cast_possible_truncation, reason = "rounded for display; the cast saturates")]
    let bytes = rate.abs().round() as i64;
    let sign = if bytes == 0 {
        ""
    } else if rate < 0.0 {
        "-"
    } else {
        "+"
    };
    format!("{sign}{}", output::size(bytes))
}

/// Returns a rate of events as text.
fn count_rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_need_time() {
        assert_eq!(rate(10, 20, Duration::from_millis(500)), Some(20.0));
        assert_eq!(rate(20, 10, Duration::from_secs(2)), Some(-5.0));
        assert_eq!(rate(0, 1, Duration::ZERO), None);
    }

    #[test]
    fn byte_rates_show_their_direction() {
        assert_eq!(bytes_rate(Some(1_048_576.0)), "+1.0 MiB");
        assert_eq!(bytes_rate(Some(-1_048_576.0)), "-1.0 MiB");
        assert_eq!(bytes_rate(Some(0.0)), "0 B");
        assert_eq!(bytes_rate(None), "-");
    }
}
