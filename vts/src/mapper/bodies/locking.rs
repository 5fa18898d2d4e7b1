// SPDX-License-Identifier: Apache-2.0
//! Tests locking and unlocking.

use super::{Outcome, bodies, check_eq};
use crate::mapper::suite::{BAD_BUFFER, BAD_VALUE, Buffer, READ, RGBA_8888, Suite, WRITE, wanted};
use crate::mapper::sys::{Native, Pixels, Rect};
use anyhow::{Context, Result, ensure};

bodies! {
    "LockUnlockBasic" reading_returns_the_written_bytes,
    "LockUnlockNoCPUUsage" without_usage_of_the_cpu_there_is_no_lock,
    "LockBadAccessRegion" regions_outside_are_refused,
    "UnlockNegative" unlocking_a_handle_without_a_buffer_fails,
    "UnlockNotImported" unlocking_a_handle_that_was_not_imported_fails,
    "UnlockNotLocked" unlocking_a_buffer_that_is_not_locked_fails,
    "LockUnlockNested" locks_nest,
    "FlushRereadBasic" two_imports_have_the_same_bytes,
    "FlushLockedBufferBadBuffer" flushing_a_buffer_that_is_not_locked_fails,
    "RereadLockedBufferBadBuffer" rereading_a_buffer_that_is_not_locked_fails,
}

/// Returns the bytes of a row of 64 by 64 pixels of four bytes.
fn row(stride: i32) -> Result<usize> {
    Ok(usize::try_from(stride).context("stride")? * 4)
}

/// Fills the pixels of an image with different numbers.
fn fill(pixels: Pixels, stride: i32, seed: u8) -> Result<()> {
    let row = row(stride)?;
    for (line, at) in (0..64_usize).flat_map(|line| (0..256_usize).map(move |at| (line, at))) {
        pixels.set(line * row + at, expected(line, at, seed));
    }
    Ok(())
}

fn expected(line: usize, at: usize, seed: u8) -> u8 {
    seed.wrapping_add((line * 7 + at * 3).to_le_bytes()[0])
}

fn verify(pixels: Pixels, stride: i32, seed: u8) -> Result<()> {
    let row = row(stride)?;
    for (line, at) in (0..64_usize).flat_map(|line| (0..256_usize).map(move |at| (line, at))) {
        let found = pixels.get(line * row + at);
        check_eq!(found, expected(line, at, seed), "byte {at} of row {line}");
    }
    Ok(())
}

fn reading_returns_the_written_bytes(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let pixels = buffer.locked(READ | WRITE)?;
    check_eq!(pixels.address() % 8, 0, "alignment of the image");
    fill(pixels, raw.stride, 1)?;
    buffer.unlocked()?;
    let whole = Rect { left: 0, top: 0, right: 64, bottom: 64 };
    let pixels = buffer.lock_region(READ, whole);
    verify(pixels.ok().context("the mapper refuses the second lock")?, raw.stride, 1)?;
    buffer.unlocked()?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn without_usage_of_the_cpu_there_is_no_lock(suite: &Suite) -> Result<Outcome> {
    let mut read_rarely = wanted(RGBA_8888);
    read_rarely.usage = 2;
    let raw = suite.allocate(&read_rarely)?;
    let buffer = suite.import(&raw)?;
    check_eq!(buffer.lock(0).err(), Some(BAD_VALUE), "a lock for nothing");
    check_eq!(suite.mapper.unlock(buffer.address), Err(BAD_BUFFER), "its unlock");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn regions_outside_are_refused(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let bad = [
        Rect { left: 0, top: 0, right: 128, bottom: 128 },
        Rect { left: 0, top: 0, right: 65, bottom: 64 },
        Rect { left: 0, top: 0, right: 64, bottom: 65 },
        Rect { left: -1, top: 0, right: 64, bottom: 64 },
        Rect { left: 32, top: 0, right: 16, bottom: 64 },
        Rect { left: 0, top: i32::MIN, right: 64, bottom: i32::MAX },
    ];
    for region in bad {
        check_eq!(buffer.lock_region(READ | WRITE, region).err(), Some(BAD_VALUE), "{region:?}");
    }
    check_eq!(suite.mapper.unlock(buffer.address), Err(BAD_BUFFER), "unlock after that");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn unlocking_a_handle_without_a_buffer_fails(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.mapper.unlock(0), Err(BAD_BUFFER), "null");
    let empty = Native::new(Vec::new(), &[])?;
    check_eq!(suite.mapper.unlock(empty.address()), Err(BAD_BUFFER), "an empty handle");
    Ok(Outcome::Passed)
}

fn unlocking_a_handle_that_was_not_imported_fails(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    check_eq!(suite.mapper.unlock(raw.native.address()), Err(BAD_BUFFER), "a raw handle");
    Ok(Outcome::Passed)
}

/// Runs a check with a buffer that is imported and not locked.
fn with_unlocked(suite: &Suite, check: impl FnOnce(&Buffer<'_>) -> Result<()>) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    check(&buffer)?;
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn unlocking_a_buffer_that_is_not_locked_fails(suite: &Suite) -> Result<Outcome> {
    with_unlocked(suite, |buffer| {
        check_eq!(suite.mapper.unlock(buffer.address), Err(BAD_BUFFER), "unlock");
        Ok(())
    })
}

fn locks_nest(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let buffer = suite.import(&raw)?;
    let first = buffer.locked(READ | WRITE)?;
    let second = buffer.locked(READ | WRITE)?;
    check_eq!(second.address(), first.address(), "the image of the second lock");
    buffer.unlocked()?;
    fill(first, raw.stride, 9)?;
    buffer.unlocked()?;
    check_eq!(suite.mapper.unlock(buffer.address), Err(BAD_BUFFER), "the third unlock of two locks");
    buffer.free()?;
    Ok(Outcome::Passed)
}

fn two_imports_have_the_same_bytes(suite: &Suite) -> Result<Outcome> {
    let raw = suite.allocate(&wanted(RGBA_8888))?;
    let (writer, reader) = (suite.import(&raw)?, suite.import(&raw)?);
    let (written, read) = (writer.locked(WRITE)?, reader.locked(READ)?);
    for seed in [3, 77] {
        fill(written, raw.stride, seed)?;
        check_eq!(suite.mapper.flush(writer.address), 0, "flushLockedBuffer");
        check_eq!(suite.mapper.reread(reader.address), 0, "rereadLockedBuffer");
        verify(read, raw.stride, seed)?;
    }
    reader.unlocked()?;
    writer.unlocked()?;
    ensure!(writer.address != reader.address, "both imports are one handle");
    reader.free()?;
    writer.free()?;
    Ok(Outcome::Passed)
}

fn flushing_a_buffer_that_is_not_locked_fails(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.mapper.flush(0), BAD_BUFFER, "null");
    with_unlocked(suite, |buffer| {
        check_eq!(suite.mapper.flush(buffer.address), BAD_BUFFER, "flushLockedBuffer");
        Ok(())
    })
}

fn rereading_a_buffer_that_is_not_locked_fails(suite: &Suite) -> Result<Outcome> {
    check_eq!(suite.mapper.reread(0), BAD_BUFFER, "null");
    with_unlocked(suite, |buffer| {
        check_eq!(suite.mapper.reread(buffer.address), BAD_BUFFER, "rereadLockedBuffer");
        Ok(())
    })
}
