// SPDX-License-Identifier: Apache-2.0
//! Tests trust domains: whether one uid can read another's bytes. Needs root, and two uids.

use crate::child::{AGAIN, ChildProcess, SECRET};
use crate::harness::{Fixture, RELEASE_DEADLINE};
use crate::outcome::{check_eq, inapplicable, tests};
use crate::request::aidl::{AllocationFlags, AllocationRequest, HeapFlags, HeapInfo, HeapStats};
use crate::request::{Held, from_heap};
use crate::sys::Mapping;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

tests![
    Quiet pages_pinned_by_one_uid_never_show_what_another_writes,
    Quiet pages_left_by_one_uid_never_reach_another,
];

/// Large enough for any implementation that pools memory.
const BYTES: i64 = 1 << 20;
/// Buffers of the victim: more than the attacker released.
const VICTIMS: usize = 8;
/// The victim's data.
const PRIVATE: u64 = 0xb0b0_b0b0_b0b0_b0b0;

/// The data of the suite itself.
const OWN: u64 = u64::from_ne_bytes([OWN_BYTE; 8]);
/// Every byte of that data.
const OWN_BYTE: u8 = 0x0e;
/// First version of the interface with `AllocationFlags.UNZEROED`.
const UNZEROED_SINCE: i32 = 2;

fn stats(fixture: &Fixture, heap: &HeapInfo) -> Result<HeapStats> {
    let stats = fixture.service.getStats()?;
    stats.into_iter().find(|row| row.heapId == heap.id).context("getStats lacks the heap")
}

fn await_pooled(fixture: &Fixture, heap: &HeapInfo) -> Result<()> {
    let start = Instant::now();
    while stats(fixture, heap)?.pooledBytes < BYTES {
        ensure!(start.elapsed() < RELEASE_DEADLINE, "heap {} does not pool released memory", heap.name);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Pages that are pinned in a pipe outlive every descriptor and mapping. No lease detects them, and
/// their holder reads what the next owner of the memory writes. So the next owner must have the
/// same uid. The test also checks that it has, and that the pin would show the data.
fn pages_pinned_by_one_uid_never_show_what_another_writes(fixture: &Fixture) -> Result<()> {
    let Some([attacker, victim]) = fixture.uids else {
        return inapplicable("needs root and --uids");
    };
    let pooled = HeapFlags::DEFERRED_FREE.0 | HeapFlags::ZEROED.0;
    let Some(heap) = fixture.mappable()?.into_iter().find(|heap| heap.flags & pooled == pooled) else {
        return inapplicable("no heap here pools released memory");
    };
    let words = [fixture.target.to_string(), heap.id.to_string(), BYTES.to_string()];
    let [endpoint, id, bytes] = words.each_ref().map(String::as_str);
    fixture.service.trim(&heap.name, 0)?;
    let (mut orders, theirs) = UnixStream::pair()?;
    let mut pinner = ChildProcess::start_as(attacker, "pin", &[endpoint, id, bytes], Some(theirs.into()))?;
    await_pooled(fixture, heap)?;

    let (count, word) = (VICTIMS.to_string(), PRIVATE.to_string());
    let others = ChildProcess::start_as(victim, "spread", &[endpoint, id, bytes, &count, &word], None)?;
    orders.write_all(b"1")?;
    let seen = pinner.line()?;
    let harmless = ["0".to_owned(), format!("{SECRET:x}")];
    ensure!(
        !seen.is_empty() && seen.split(' ').all(|word| harmless.iter().any(|own| own == word)),
        "uid {attacker} reads in pages that it pinned: {seen}; uid {victim} wrote {PRIVATE:x}"
    );

    let recycled = stats(fixture, heap)?.recycled;
    orders.write_all(b"2")?;
    let seen = pinner.line()?;
    check_eq!(seen, format!("{AGAIN:x}"), "the pinned word in the next buffer of the same uid");
    ensure!(stats(fixture, heap)?.recycled > recycled, "its own memory was not recycled for uid {attacker}");
    pinner.finish()?;
    others.kill()
}

/// Returns the first word of a buffer that is neither zero nor written by this process.
fn foreign_word(buffer: &Held) -> Result<Option<u64>> {
    let mapping = Mapping::read_only(&buffer.fd, buffer.size)?;
    let words = usize::try_from(buffer.size)? / size_of::<u64>();
    // Interrupted cleaning may have ended within a word.
    let is_own = |word: &u64| word.to_ne_bytes().iter().all(|byte| [0, OWN_BYTE].contains(byte));
    Ok((0..words).map(|index| mapping.load(index)).find(|word| !is_own(word)))
}

/// A buffer that need not be zeroed may contain data of its own uid, but never data of another uid.
fn pages_left_by_one_uid_never_reach_another(fixture: &Fixture) -> Result<()> {
    let version = fixture.service.getInterfaceVersion()?;
    if version < UNZEROED_SINCE {
        return inapplicable(format!("the interface has version {version}"));
    }
    let Some(heap) =
        fixture.mappable()?.into_iter().find(|heap| heap.flags & HeapFlags::DEFERRED_FREE.0 != 0)
    else {
        return inapplicable("no heap here pools released memory");
    };
    let Some([_, other]) = fixture.uids else {
        return inapplicable("needs root and --uids");
    };
    // Returns memory to the kernel that earlier tests wrote as this uid.
    fixture.service.trim(&heap.name, 0)?;
    let words = [fixture.target.to_string(), heap.id.to_string(), BYTES.to_string()];
    let [endpoint, id, bytes] = words.each_ref().map(String::as_str);
    let (count, word) = (VICTIMS.to_string(), PRIVATE.to_string());
    ChildProcess::start_as(other, "spread", &[endpoint, id, bytes, &count, &word], None)?.kill()?;
    await_pooled(fixture, heap)?;
    let flags = AllocationFlags::UNZEROED.0;
    for _ in 0..VICTIMS {
        let unzeroed = AllocationRequest { flags, count: 2, ..from_heap(heap.id, BYTES) };
        let buffers = fixture.allocate(&unzeroed)?;
        for buffer in &buffers {
            check_eq!(
                foreign_word(buffer)?,
                None,
                "a word of buffer {} that this uid never wrote",
                buffer.id
            );
            Mapping::writable(&buffer.fd, buffer.size)?.fill(OWN);
        }
    }
    // Without the flag memory is zeroed.
    for buffer in &fixture.allocate(&AllocationRequest { count: 2, ..from_heap(heap.id, BYTES) })? {
        let dirty = Mapping::read_only(&buffer.fd, buffer.size)?.first_other_than(0);
        check_eq!(dirty, None, "the first word that is not zero in buffer {}", buffer.id);
    }
    Ok(())
}
