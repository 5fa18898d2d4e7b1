// SPDX-License-Identifier: Apache-2.0
//! `anionctl metrics`: counters for monitoring systems, printed once or served on a Unix socket.

mod server;
mod text;

use crate::Service;
use crate::args::MetricsArgs;
use crate::failure::Failure;
use crate::heaps::fetch_stats;
use crate::latency::Latency;
use crate::output::Output;
use crate::rows::{StatsRow, UsageRow};
use crate::usage;
use crate::words;
use text::{Document, Kind};

/// A number of one heap: name of its family, kind, unit, help, and the function that reads it.
type HeapFamily = (&'static str, Kind, &'static str, &'static str, fn(&StatsRow) -> i64);

/// The families with one number for each heap.
const HEAP_FAMILIES: [HeapFamily; 14] = [
    ("anion_heap_live_bytes", Kind::Gauge, "bytes", "Bytes that clients hold.", |heap| heap.live_bytes),
    (
        "anion_heap_buffers",
        Kind::Gauge,
        "",
        "Buffers that clients hold or that wait to be cleaned.",
        |heap| heap.num_of_buffers,
    ),
    ("anion_heap_deferred_bytes", Kind::Gauge, "bytes", "Released bytes that wait to be cleaned.", |heap| {
        heap.deferred_bytes
    }),
    ("anion_heap_pooled_bytes", Kind::Gauge, "bytes", "Clean bytes that are ready for reuse.", |heap| {
        heap.pooled_bytes
    }),
    (
        "anion_heap_reserved_bytes",
        Kind::Gauge,
        "bytes",
        "Bytes of reserved buffers that are not drawn.",
        |heap| heap.reserved_bytes,
    ),
    ("anion_heap_peak_bytes", Kind::Gauge, "bytes", "Highest sum of live and deferred bytes.", |heap| {
        heap.alloc_bytes_wm
    }),
    (
        "anion_heap_capacity_bytes",
        Kind::Gauge,
        "bytes",
        "Most bytes that it may hold; 0 without a limit.",
        |heap| heap.capacity,
    ),
    (
        "anion_heap_largest_free_bytes",
        Kind::Gauge,
        "bytes",
        "Longest free piece of memory that is set aside; 0 without such memory.",
        |heap| heap.largest_free_bytes,
    ),
    ("anion_heap_allocations", Kind::Counter, "", "Buffers handed out.", |heap| heap.allocations),
    ("anion_heap_frees", Kind::Counter, "", "Buffers released.", |heap| heap.frees),
    ("anion_heap_pool_hits", Kind::Counter, "", "Buffers that came from the pool.", |heap| heap.recycled),
    (
        "anion_heap_pool_misses",
        Kind::Counter,
        "",
        "Buffers that could have come from the pool and did not.",
        |heap| heap.pool_misses,
    ),
    ("anion_heap_preallocated_buffers", Kind::Counter, "", "Buffers made before a client asked.", |heap| {
        heap.warmed
    }),
    ("anion_heap_scrubbed_bytes", Kind::Counter, "bytes", "Bytes set to zero for reuse.", |heap| {
        heap.scrubbed_bytes
    }),
];

/// A number of one uid: name of its family, unit, help, and the function that reads it.
type ClientFamily = (&'static str, &'static str, &'static str, fn(&UsageRow) -> i64);

/// The families with one number for each uid.
const CLIENT_FAMILIES: [ClientFamily; 6] = [
    ("anion_client_held_bytes", "bytes", "Bytes that the uid holds.", |client| client.bytes),
    ("anion_client_buffers", "", "Buffers that the uid holds.", |client| client.buffers),
    ("anion_client_reserved_bytes", "bytes", "Bytes that the uid reserved.", |client| client.reserved_bytes),
    ("anion_client_peak_bytes", "bytes", "Most bytes that the uid held.", |client| client.peak_bytes),
    ("anion_client_quota_bytes", "bytes", "Most bytes that it may hold; 0 without a limit.", |client| {
        client.quota_bytes
    }),
    ("anion_client_quota_buffers", "", "Most buffers that it may hold; 0 without a limit.", |client| {
        client.quota_buffers
    }),
];

/// Prints the metrics, or serves them until a signal comes.
///
/// # Errors
/// The errors of the service; [`Failure::Local`] if the socket cannot be served.
pub(crate) fn run(
    args: &MetricsArgs,
    connect: impl Fn() -> Result<Service, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    match &args.listen {
        Some(path) => server::serve(path, || document(&connect()?)),
        None => output.raw(document(&connect()?)?.as_bytes()),
    }
}

/// Returns all metrics that this caller may see.
fn document(service: &Service) -> Result<String, Failure> {
    let stats = fetch_stats(service.interface())?;
    let clients = usage::fetch(service.interface())?;
    let pressure = words::pressure(service.interface().getPressure()?);
    Ok(render(&stats, &clients, &pressure))
}

fn render(stats: &[StatsRow], clients: &[UsageRow], pressure: &str) -> String {
    let mut document = Document::default();
    for (name, kind, unit, help, value) in HEAP_FAMILIES {
        document.family(name, kind, unit, help);
        let sample = if kind == Kind::Counter { format!("{name}_total") } else { name.to_owned() };
        for heap in stats {
            document.sample(&sample, &heap_labels(heap, &heap.heap_id.to_string()), value(heap));
        }
    }
    by_cause(&mut document, stats);
    latencies(&mut document, stats);
    for (name, unit, help, value) in CLIENT_FAMILIES {
        document.family(name, Kind::Gauge, unit, help);
        for client in clients {
            let labels =
                [("uid", &*client.uid.to_string()), ("user", &client.user), ("policy", &client.policy)];
            document.sample(name, &labels, value(client));
        }
    }
    const PRESSURE: &str = "anion_memory_pressure";
    document.family(PRESSURE, Kind::StateSet, "", "How scarce memory is.");
    for level in ["none", "moderate", "critical"] {
        document.sample(PRESSURE, &[(PRESSURE, level)], i64::from(level == pressure));
    }
    document.end()
}

fn heap_labels<'a>(heap: &'a StatsRow, id: &'a str) -> [(&'static str, &'a str); 2] {
    [("heap", &heap.heap), ("id", id)]
}

/// Adds refusals and discarded buffers by cause.
fn by_cause(document: &mut Document, stats: &[StatsRow]) {
    let mut family = |name: &str, help: &str, causes: fn(&StatsRow) -> Vec<(&'static str, i64)>| {
        document.family(name, Kind::Counter, "", help);
        for heap in stats {
            let id = heap.heap_id.to_string();
            for (cause, count) in causes(heap) {
                let [name_label, id_label] = heap_labels(heap, &id);
                document.sample(&format!("{name}_total"), &[name_label, id_label, ("cause", cause)], count);
            }
        }
    };
    family("anion_heap_refused_requests", "Requests that the heap did not serve.", |heap| {
        let failures = &heap.failures;
        vec![
            ("fragmented", failures.fragmented),
            ("no_memory", failures.no_memory.saturating_sub(failures.fragmented)),
            ("quota", failures.quota),
            ("not_permitted", failures.not_permitted),
            ("unsupported", failures.unsupported),
            ("backend", failures.backend),
        ]
    });
    family("anion_heap_discarded_buffers", "Released buffers that were not kept for reuse.", |heap| {
        let causes = &heap.discarded_by_cause;
        vec![
            ("full", causes.full),
            ("busy", causes.busy),
            ("sealed", causes.sealed),
            ("untouched", causes.untouched),
            ("scarce", causes.scarce),
            ("scrub_failed", causes.scrub_failed),
        ]
    });
}

/// Adds the durations of successful calls within the service. Their sum is not known, so there is
/// no `_sum`, and OpenMetrics permits no `_count` without it. The last bucket has the count.
fn latencies(document: &mut Document, stats: &[StatsRow]) {
    const NAME: &str = "anion_heap_allocate_duration_seconds";
    document.family(NAME, Kind::Histogram, "seconds", "How long successful calls took within the service.");
    for heap in stats {
        let (id, Latency(classes)) = (heap.heap_id.to_string(), &heap.allocate_latency);
        let mut calls = 0_i64;
        for (class, count) in classes.iter().enumerate() {
            calls = calls.saturating_add(*count);
            let is_last = class + 1 == classes.len();
            let bound = if is_last { "+Inf".to_owned() } else { bound(class) };
            let [name_label, id_label] = heap_labels(heap, &id);
            document.sample(&format!("{NAME}_bucket"), &[name_label, id_label, ("le", &bound)], calls);
        }
    }
}

/// Returns the upper bound of a class in seconds: 2^class microseconds, as a decimal fraction.
fn bound(class: usize) -> String {
    let micros = u32::try_from(class).ok().and_then(|class| 1_u64.checked_shl(class)).unwrap_or(u64::MAX);
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_classes_are_seconds() {
        assert_eq!(
            [0, 1, 10, 20, 22].map(bound),
            ["0.000001", "0.000002", "0.001024", "1.048576", "4.194304"]
        );
    }

    #[test]
    fn names_follow_the_rules_of_openmetrics() {
        let families = HEAP_FAMILIES.iter().map(|(name, _, unit, help, _)| (*name, *unit, *help));
        let families =
            families.chain(CLIENT_FAMILIES.iter().map(|(name, unit, help, _)| (*name, *unit, *help)));
        for (name, unit, help) in families {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(
                !name.ends_with("_total") && !name.ends_with("_count") && !name.ends_with("_info"),
                "{name}"
            );
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn without_heaps_and_clients_the_document_is_whole() {
        let text = render(&[], &[], "moderate");
        assert!(text.contains("anion_memory_pressure{anion_memory_pressure=\"moderate\"} 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
