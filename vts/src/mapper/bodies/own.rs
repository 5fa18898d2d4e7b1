// SPDX-License-Identifier: Apache-2.0
//! Tests properties that Android's suite does not test, and that clients need.

use super::{Outcome, bodies, check_eq};
use crate::mapper::decode::{Reader, encode};
use crate::mapper::suite::{
    BAD_VALUE, BLOB, READ, RGBA_8888, Suite, UNSUPPORTED, WRITE, YCBCR_420_888, wanted,
};
use crate::mapper::sys::{Native, Rect};
use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::{Pid, gettid, pipe, write};
use std::fs::File;
use std::io::Read;

bodies! {
    "TransportSize" a_handle_that_was_sent_on_is_the_same_buffer,
    "BlobIsMemory" a_blob_is_locked_like_shared_memory,
    "ReservedRegion" the_reserved_region_is_shared,
    "LockTakesItsFence" the_fence_is_closed_however_the_lock_ends,
    "LockWaitsForItsFence" a_lock_waits_for_its_fence,
    "UsageDecidesLocks" a_lock_for_what_the_buffer_is_not_for_is_refused,
    "MalformedValues" values_that_are_malformed_change_nothing,
    "TooSmallRoom" the_size_is_told_when_there_is_no_room,
    "ChromaIsInTheSameFile" planes_after_the_first_have_offsets,
    "DumpIsReadable" a_dump_can_be_decoded,
    "Threads" threads_share_buffers,
}

fn a_handle_that_was_sent_on_is_the_same_buffer(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let size = suite.mapper.transport_size(buffer.address).map_err(|code| anyhow!("{code}"))?;
    let (fds, ints) = suite.mapper.contents(buffer.address);
    check_eq!(
        (usize::try_from(size.0)?, usize::try_from(size.1)?),
        (fds.len(), ints.len()),
        "transport size"
    );
    check_eq!(ints, raw.native.ints(), "numbers of the imported handle");
    // Its descriptors are copies, like those that another process receives.
    ensure!(fds.iter().all(|fd| *fd > 2), "descriptors {fds:?}");
    let copies: Result<Vec<_>, _> = raw.native.fds().iter().map(|fd| fd.try_clone()).collect();
    let sent = Native::new(copies?, &ints)?;
    let other = suite.mapper.import(&sent).map_err(|code| anyhow!("importBuffer returns {code}"))?;
    drop(sent);
    let other = suite.adopt(other, None)?;
    check_eq!(other.long(1)?, buffer.long(1)?, "BUFFER_ID");
    buffer.free()?;
    other.free()?;
    Ok(Outcome::Passed)
}

fn a_blob_is_locked_like_shared_memory(suite: &Suite) -> Result<Outcome> {
    let mut blob = wanted(BLOB);
    (blob.width, blob.height) = (10_000, 1);
    let raw = suite.allocate(&blob)?;
    check_eq!(raw.stride, 10_000, "stride");
    let (one, other) = (suite.import(&raw)?, suite.import(&raw)?);
    let (written, read) = (one.locked(WRITE)?, other.locked(READ)?);
    for at in [0, 4097, 9999] {
        written.set(at, 0x3c);
        check_eq!(read.get(at), 0x3c, "byte {at}, at once");
    }
    one.free()?;
    other.free()?;
    Ok(Outcome::Passed)
}

fn the_reserved_region_is_shared(suite: &Suite) -> Result<Outcome> {
    let mut reserving = wanted(RGBA_8888);
    for size in [8_u16, 5000] {
        reserving.reserved = i64::from(size);
        let raw = suite.allocate(&reserving)?;
        let (one, other) = (suite.import(&raw)?, suite.import(&raw)?);
        let (written, bytes) = suite.mapper.reserved(one.address).map_err(|code| anyhow!("{code}"))?;
        let (read, _) = suite.mapper.reserved(other.address).map_err(|code| anyhow!("{code}"))?;
        check_eq!(bytes, u64::from(size), "bytes");
        check_eq!(written.address() % 8, 0, "alignment");
        let last = usize::from(size) - 1;
        check_eq!(read.get(last), 0, "its last byte at first");
        written.set(last, 0x42);
        check_eq!(read.get(last), 0x42, "its last byte");
        check_eq!(other.text(2)?, "VTS_TEMP", "NAME beside it");
        one.free()?;
        other.free()?;
    }
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let none = suite.mapper.reserved(buffer.address).map(|(_, bytes)| bytes);
    check_eq!(none, Ok(0), "bytes of an empty reserved region");
    Ok(Outcome::Passed)
}

fn the_fence_is_closed_however_the_lock_ends(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let outside = Rect { left: 0, top: 0, right: 65, bottom: 1 };
    let cases =
        [(0, READ, Rect::default()), (buffer.address, 0, Rect::default()), (buffer.address, READ, outside)];
    for (address, usage, region) in cases {
        let (reader, writer) = pipe()?;
        let refused = suite.mapper.lock(address, usage, region, Some(writer), 0);
        ensure!(refused.is_err(), "usage {usage:#x} is not refused");
        let mut rest = Vec::new();
        File::from(reader).read_to_end(&mut rest).context("the end of the pipe")?;
    }
    Ok(Outcome::Passed)
}

fn a_lock_waits_for_its_fence(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    // A pipe is readable after a write, like a fence after it has signalled.
    let (fence, signal) = pipe()?;
    let (waiting, locked) = std::sync::mpsc::channel();
    std::thread::scope(|scope| -> Result<()> {
        let address = buffer.address;
        let (named, thread) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let _ = named.send(gettid());
            let result = suite.mapper.lock(address, READ, Rect::default(), Some(fence), 0);
            let _ = waiting.send(result.map(|_| ()));
        });
        let thread = thread.recv()?;
        while !is_asleep(thread)? {
            ensure!(locked.try_recv().is_err(), "the lock does not wait");
            std::thread::yield_now();
        }
        ensure!(locked.try_recv().is_err(), "the lock does not wait");
        write(&signal, b"s")?;
        check_eq!(locked.recv()?, Ok(()), "the lock after the signal");
        Ok(())
    })?;
    buffer.unlocked()?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

/// Returns whether a thread of this process sleeps.
fn is_asleep(thread: Pid) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status"))?;
    Ok(status.lines().any(|line| line.starts_with("State:\tS")))
}

fn a_lock_for_what_the_buffer_is_not_for_is_refused(suite: &Suite) -> Result<Outcome> {
    let mut read_only = wanted(RGBA_8888);
    read_only.usage = READ;
    let raw = suite.allocate(&read_only)?;
    let buffer = suite.import(&raw)?;
    // Writing; a GPU; undefined values of the CPU's fields.
    for usage in [WRITE, READ | WRITE, READ | 0x100, 0x1, 0x4, -1] {
        check_eq!(buffer.lock(usage).err(), Some(BAD_VALUE), "usage {usage:#x}");
    }
    buffer.locked(0x2)?;
    buffer.unlocked()?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn values_that_are_malformed_change_nothing(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let good = encode(17, &7_i32.to_le_bytes());
    check_eq!(suite.mapper.set_standard(buffer.address, 17, &good), 0, "DATASPACE");
    let long = |number: i64, length: i64, bytes: usize| {
        let mut payload = length.to_le_bytes().to_vec();
        payload.resize(8 + bytes, 1);
        (number, encode(number, &payload))
    };
    let mut malformed = vec![(17, encode(18, &1_i32.to_le_bytes())), (17, Vec::new()), (17, vec![0xff; 100])];
    malformed.extend((1..good.len()).map(|length| (17, good[..length].to_vec())));
    malformed.push((17, [&good[..], &[0]].concat()));
    malformed.extend([(19, encode(19, &[0; 39])), (20, encode(20, &[0; 9]))]);
    malformed.extend([long(21, -1, 4), long(21, 5, 4), long(22, i64::MAX, 4), long(21, 60_000, 60_000)]);
    for (number, value) in malformed {
        let code = suite.mapper.set_standard(buffer.address, number, &value);
        check_eq!(code, UNSUPPORTED, "type {number}, {} bytes", value.len());
    }
    check_eq!(buffer.word(17)?, 7, "DATASPACE after that");
    for number in 19..=22 {
        check_eq!(buffer.get(number), Ok(Vec::new()), "type {number} after that");
    }
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn the_size_is_told_when_there_is_no_room(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(YCBCR_420_888))?;
    let buffer = suite.import(&raw)?;
    for number in 1..=18 {
        let whole = buffer.encoded(number)?;
        for room in [0, 1, whole.len() - 1] {
            let mut place = vec![0xee; room + 1];
            let length = suite.mapper.get_standard(buffer.address, number, &mut place[..room]);
            check_eq!(usize::try_from(length).ok(), Some(whole.len()), "type {number} with room for {room}");
            check_eq!(place[room], 0xee, "the byte after the room");
        }
    }
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn planes_after_the_first_have_offsets(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(YCBCR_420_888))?;
    let buffer = suite.import(&raw)?;
    let (planes, crops) = (buffer.planes()?, buffer.crop()?);
    check_eq!(crops.len(), planes.len(), "rectangles of CROP");
    check_eq!(planes[0].offset, 0, "offset of the first plane");
    ensure!(planes[1..].iter().all(|plane| plane.offset > 0), "an offset of 0 means another descriptor");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn a_dump_can_be_decoded(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let dumped = suite.mapper.dump(buffer.address).map_err(|code| anyhow!("dumpBuffer returns {code}"))?;
    for (name, number, value) in &dumped {
        ensure!(value == &buffer.encoded(*number)?, "{name} {number} is dumped as another value");
        Reader::new(value, *number)?;
    }
    for number in (1..=18).chain([23]) {
        ensure!(dumped.iter().any(|(_, dumped, _)| *dumped == number), "type {number} is not dumped");
    }
    let all = suite.mapper.dump_all().map_err(|code| anyhow!("dumpAllBuffers returns {code}"))?;
    let own = all.iter().filter(|values| **values == dumped).count();
    check_eq!(own, 1, "buffers like this one in the dump of all");
    buffer.free()?;
    Ok(Outcome::Passed)
}

/// Rounds of each thread.
const ROUNDS: usize = 200;

fn threads_share_buffers(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let shared = suite.import(&raw)?;
    let work = |dataspace: i32| -> Result<()> {
        for _ in 0..ROUNDS {
            let own = suite.import(&raw)?;
            own.locked(READ | WRITE)?;
            shared.locked(READ)?;
            let value = encode(17, &dataspace.to_le_bytes());
            check_eq!(suite.mapper.set_standard(own.address, 17, &value), 0, "DATASPACE");
            ensure!((0..4).contains(&shared.word(17)?), "DATASPACE has a value that no thread has set");
            shared.unlocked()?;
            own.unlocked()?;
            own.free()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|dataspace| scope.spawn(move || work(dataspace))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    shared.free()?;
    Ok(Outcome::Passed)
}
