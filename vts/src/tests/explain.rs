// SPDX-License-Identifier: Apache-2.0
//! Tests the dry run: it must predict the result of allocate, and change nothing.

use crate::harness::Fixture;
use crate::outcome::{check_eq, code_name, tests};
use crate::request::aidl::{Access, AllocationRequest, ErrorCode, Explanation, Verdict};
use crate::request::{from_any, from_heap, from_names};
use anion_ipc::ServiceError;
use anyhow::{Context, Result, ensure};

tests![
    Shared explain_agrees_with_allocate,
    Shared verdicts_follow_the_order_of_trial,
    Shared unknown_heap_is_a_verdict_not_an_error,
    Shared memory_reported_to_fit_can_be_allocated,
    Quiet refusal_carries_the_explanation,
    Quiet explain_touches_no_memory_and_no_counter,
];

/// Returns requests for every result that is possible at any time.
fn table(fixture: &Fixture) -> Vec<AllocationRequest> {
    let mut requests = vec![
        from_any(1),
        from_any(65536),
        from_any(1 << 56),
        from_any(i64::MAX),
        AllocationRequest { count: 4, ..from_any(4096) },
        AllocationRequest { count: 64, ..from_any(1 << 55) },
        AllocationRequest { access: Access::READ_ONLY, ..from_any(1) },
        AllocationRequest { requireDmaBuf: true, ..from_any(1) },
        AllocationRequest { alignment: 1 << 62, ..from_any(1) },
        from_names(&["no-such-heap"], 1),
    ];
    for heap in &fixture.heaps {
        requests.extend([
            from_heap(heap.id, 1),
            from_heap(heap.id, heap.granule.max(1)),
            from_heap(heap.id, heap.capacity.saturating_add(1).max(1)),
            from_names(&["no-such-heap", &heap.name], 1),
            AllocationRequest { requireDmaBuf: true, ..from_heap(heap.id, 1) },
            AllocationRequest { alignment: heap.maxAlignment.max(1), ..from_heap(heap.id, 1) },
            AllocationRequest { flags: 1, ..from_heap(heap.id, 1) },
        ]);
    }
    requests
}

/// Checks that the explanation is consistent.
fn check(explanation: &Explanation) -> Result<()> {
    ensure!(!explanation.summary.is_empty(), "no summary");
    check_eq!(explanation.error == 0, explanation.possible, "possible without an error");
    check_eq!(explanation.chosenHeap.is_empty(), !explanation.possible, "no chosen heap when impossible");
    for verdict in &explanation.verdicts {
        ensure!(Verdict::enum_values().contains(&verdict.verdict), "{:?} is not defined", verdict.verdict);
        check_eq!(verdict.heapId == -1, verdict.verdict == Verdict::UNKNOWN_HEAP, "id -1 of an unknown heap");
        ensure!(!verdict.reason.is_empty(), "no reason for {}", verdict.heapName);
        ensure!(verdict.fitsBytes >= 0, "{} bytes fit {}", verdict.fitsBytes, verdict.heapName);
    }
    let first = explanation.verdicts.iter().find(|verdict| verdict.verdict == Verdict::WOULD_SERVE);
    check_eq!(
        first.map_or("", |verdict| verdict.heapName.as_str()),
        explanation.chosenHeap,
        "first heap that would serve is the chosen one"
    );
    Ok(())
}

/// Other clients allocate and release, so only a persistent difference counts.
fn explain_agrees_with_allocate(fixture: &Fixture) -> Result<()> {
    const ATTEMPTS: u32 = 5;
    for request in table(fixture) {
        let mut outcome = (String::new(), String::new());
        for _ in 0..ATTEMPTS {
            let explanation =
                fixture.service.explain(&request).with_context(|| format!("explain {request:?}"))?;
            check(&explanation).with_context(|| format!("explain {request:?}"))?;
            let said = if explanation.possible {
                format!("served by {}", explanation.chosenHeap)
            } else {
                code_name(explanation.error)
            };
            let done = match fixture.service.allocate(&request) {
                Ok(allocation) => format!("served by {}", allocation.buffers[0].heapName),
                Err(status) => code_name(ServiceError::of(&status).with_context(|| status.to_string())?.code),
            };
            outcome = (said, done);
            if outcome.0 == outcome.1 {
                break;
            }
        }
        check_eq!(outcome.1, outcome.0, "the results of explain and allocate for {request:?}");
    }
    Ok(())
}

fn verdicts_follow_the_order_of_trial(fixture: &Fixture) -> Result<()> {
    let ids = |explanation: Explanation| -> Vec<i32> {
        explanation.verdicts.iter().map(|verdict| verdict.heapId).collect()
    };
    let listed: Vec<i32> = fixture.heaps.iter().map(|heap| heap.id).collect();
    check_eq!(ids(fixture.service.explain(&from_any(1))?), listed, "heaps of mask -1");
    let names: Vec<&str> = fixture.heaps.iter().rev().map(|heap| heap.name.as_str()).collect();
    let reversed: Vec<i32> = listed.iter().rev().copied().collect();
    check_eq!(ids(fixture.service.explain(&from_names(&names, 1))?), reversed, "heaps of reversed names");
    for id in listed {
        check_eq!(ids(fixture.service.explain(&from_heap(id, 1))?), vec![id], "heaps of one bit");
    }
    Ok(())
}

fn unknown_heap_is_a_verdict_not_an_error(fixture: &Fixture) -> Result<()> {
    let known = &fixture.roomy()?.name;
    let explanation = fixture.service.explain(&from_names(&["no-such-heap", known], 1))?;
    let verdicts: Vec<_> =
        explanation.verdicts.iter().map(|verdict| (verdict.heapName.as_str(), verdict.verdict)).collect();
    check_eq!(
        verdicts,
        vec![("no-such-heap", Verdict::UNKNOWN_HEAP), (known.as_str(), Verdict::WOULD_SERVE)],
        "verdicts"
    );
    let explanation = fixture.service.explain(&from_names(&["no-such-heap"], 1))?;
    check_eq!(
        (explanation.possible, explanation.error),
        (false, ErrorCode::UNKNOWN_HEAP.0),
        "possible and error"
    );
    let taken = fixture.heaps.iter().fold(0, |mask, heap| mask | 1 << heap.id);
    if taken != -1_i32 {
        let explanation =
            fixture.service.explain(&AllocationRequest { heapIdMask: !taken, ..from_any(1) })?;
        check_eq!(explanation.error, ErrorCode::UNKNOWN_HEAP.0, "error of a mask without heaps");
    }
    Ok(())
}

/// Other clients may take memory that fits now, so the test requests only a small part of it.
fn memory_reported_to_fit_can_be_allocated(fixture: &Fixture) -> Result<()> {
    for heap in fixture.usable() {
        let fits = fixture.fits(heap)?;
        ensure!(fits >= heap.granule, "heap {} serves, but {fits} bytes are said to fit", heap.name);
        if heap.capacity > 0 {
            ensure!(fits <= heap.capacity, "{fits} bytes fit heap {} of {}", heap.name, heap.capacity);
        }
        fixture.allocate_one(&from_heap(heap.id, heap.granule.max(fits / 4).min(4 << 20)))?;
    }
    Ok(())
}

/// The text may contain the free bytes, which other uids change: the explanation before or after
/// must match.
fn refusal_carries_the_explanation(fixture: &Fixture) -> Result<()> {
    const ATTEMPTS: u32 = 5;
    let mut refusals = 0;
    for request in table(fixture) {
        for attempt in 1..=ATTEMPTS {
            let before = fixture.service.explain(&request)?.summary;
            let Err(status) = fixture.service.allocate(&request) else { break };
            refusals += 1;
            let seen = ServiceError::of(&status).with_context(|| status.to_string())?.message;
            let after = fixture.service.explain(&request)?.summary;
            if seen.contains(&before) || seen.contains(&after) {
                break;
            }
            ensure!(
                attempt < ATTEMPTS,
                "{request:?}: the message {seen:?} does not carry the summary {before:?}"
            );
        }
    }
    ensure!(refusals > 0, "nothing in the table was refused");
    Ok(())
}

fn explain_touches_no_memory_and_no_counter(fixture: &Fixture) -> Result<()> {
    const TIMES: i64 = 200;
    let refusals = || -> Result<i64> {
        let stats = fixture.service.getStats()?;
        Ok(stats.iter().map(|heap| heap.failuresUnsupported).sum())
    };
    let impossible = AllocationRequest { alignment: 1 << 62, ..from_any(1) };
    let (usage, before) = (fixture.usage()?, refusals()?);
    for _ in 0..TIMES {
        fixture.service.explain(&impossible)?;
        fixture.service.explain(&from_any(65536))?;
    }
    // Refusals of other uids count too, but there are fewer of them in this time.
    let more = refusals()? - before;
    ensure!(more < TIMES, "{TIMES} dry runs raised the number of refusals by {more}");
    let now = fixture.usage()?;
    check_eq!((now.bytes, now.buffers, now.peakBytes), (0, 0, usage.peakBytes), "usage after dry runs");
    Ok(())
}
